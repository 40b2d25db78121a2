package api

// Activity is what goes on: counters of everything that a page or a live view shows, at one moment. Rates are the differences of two of
// them over the difference of their At.
type Activity struct {
	Instance string  `json:"instance"`
	Version  string  `json:"version"`
	At       float64 `json:"at"` // seconds on a clock that goes forward only
	// Watch changes where Edges start anew: those of two watches are not to be compared. Edges are counted while somebody looks.
	Watch uint64 `json:"watch"`

	Mode     string         `json:"mode"`
	Kernel   string         `json:"kernel"` // release and hook
	Docker   bool           `json:"docker"` // Docker's events are followed
	Bridges  []BridgeStatus `json:"bridges"`
	Uplinks  []UplinkStatus `json:"uplinks"`
	Tables   []Table        `json:"tables"`
	Problems []string       `json:"problems"`

	Endpoints []EndpointActivity `json:"endpoints"`
	Edges     []Edge             `json:"edges"`
	Partial   bool               `json:"partial"` // there are more flows than were counted for Edges, Flows and Ports
	Ports     []PortActivity     `json:"ports"`
	PortCount int                `json:"port_count"` // Ports holds the first of them
	Drops     []ReasonCount      `json:"drops"`
	Passed    []ReasonCount      `json:"passed"` // left to the kernel
}

// EndpointActivity is a container's part. Flows are those that the datapath knows now, in whatever state.
type EndpointActivity struct {
	ID        uint32           `json:"id"` // never another endpoint's
	Name      string           `json:"name"`
	Container string           `json:"container"`
	Bridge    string           `json:"bridge"`
	Address   string           `json:"address"`
	Flows     int              `json:"flows"`
	Counters  EndpointCounters `json:"counters"`
}

// Ends of an Edge that are no container.
const (
	EndOutside uint32 = 0
	EndHost    uint32 = 1<<32 - 1
)

// Edge is what went from one end to another since the watch began: endpoint ids, EndOutside or EndHost.
type Edge struct {
	From    uint32 `json:"from"`
	To      uint32 `json:"to"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// PortActivity is a published port, and how many flows go to it now.
type PortActivity struct {
	Port
	Flows int `json:"flows"`
}

// ReasonCount is how many packets were dropped, or left to the kernel, for a reason.
type ReasonCount struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// Table is how full a map is.
type Table struct {
	Name     string `json:"name"`
	Entries  int    `json:"entries"`
	Capacity int    `json:"capacity"`
}
