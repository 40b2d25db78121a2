package api

// PeerRequest adds or removes another host. Via and MAC are for adding; an empty MAC is the one that ebpfnet makes from Via.
type PeerRequest struct {
	Subnet string `json:"subnet"`
	Via    string `json:"via,omitempty"`
	MAC    string `json:"mac,omitempty"`
}

// Peer is another host. Way is vxlan or direct; Source is etcd or user; Node is empty where no ebpfnet runs, or the user named it.
type Peer struct {
	Subnet string `json:"subnet"`
	Via    string `json:"via"`
	MAC    string `json:"mac"`
	Way    string `json:"way"`
	Source string `json:"source"`
	Node   string `json:"node,omitempty"`
}

// OverlayStatus is this host's place among others. State is static where the user named the peers.
type OverlayStatus struct {
	State     string `json:"state"`
	Connected bool   `json:"connected"` // etcd answers
	Backend   string `json:"backend"`
	Network   string `json:"network"`
	Subnet    string `json:"subnet"`
	PublicIP  string `json:"public_ip"`
	MTU       int    `json:"mtu"`
	Peers     int    `json:"peers"`
}
