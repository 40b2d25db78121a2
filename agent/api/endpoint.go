package api

// EndpointDetail is what `ebpfnet endpoint get` prints: the row of the list, the veth pair's two ends, and the container's routes.
type EndpointDetail struct {
	Endpoint
	Host      VethEnd `json:"host_end"`
	Inside    VethEnd `json:"container_end"`
	Routes    []Route `json:"routes"`
	NotLooked string  `json:"not_looked,omitempty"` // why the container's namespace could not be looked into
}

// VethEnd is one end of a veth pair. Namespace is net:[INODE], as the links in /proc/PID/ns read; Path leads to it.
type VethEnd struct {
	Name      string `json:"name"`
	Ifindex   int    `json:"ifindex"`
	MAC       string `json:"mac"`
	MTU       int    `json:"mtu"`
	Up        bool   `json:"up"`
	Namespace string `json:"namespace"`
	Path      string `json:"path,omitempty"` // empty for the host's
}

// Route is a route of a container, of its main table. Destination is "default" or a prefix.
type Route struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway,omitempty"`
	Device      string `json:"device"`
	Source      string `json:"source,omitempty"`
	Metric      int    `json:"metric,omitempty"`
}
