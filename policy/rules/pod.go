package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Labels that every pod has beside its container's own.
const (
	// LabelContainer is the container's name, or what a namespace without a container goes by.
	LabelContainer = "ebpfnet.container"
	// labelService is Compose's name for what a container is one of.
	labelService = "com.docker.compose.service"
	// LabelNamespace is on every namespace, as in Kubernetes.
	LabelNamespace = "kubernetes.io/metadata.name"
	// LabelPorts is a container's label that gives its ports names: http=80,dns=53/udp.
	LabelPorts = "ebpfnet.ports"
)

// DefaultNamespace is that of Docker's default network, and of a policy that names none.
const DefaultNamespace = "default"

// Pod is an endpoint as the rules see it.
type Pod struct {
	Name            string // unique
	Container       string // several pods may be one container's
	Namespace       string
	NamespaceLabels map[string]string
	Labels          map[string]string
	Addrs           []netip.Addr
}

// namedPort is a port of a container that has a name.
type namedPort struct {
	name  string
	port  uint16
	proto uint8
}

// namedPorts reads LabelPorts.
func (p *Pod) namedPorts() ([]namedPort, error) {
	text, ok := p.Labels[LabelPorts]
	if !ok {
		return nil, nil
	}
	var all []namedPort
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, port, ok := strings.Cut(item, "=")
		number, proto, hasProto := strings.Cut(port, "/")
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 16)
		if !ok || err != nil || n == 0 {
			return nil, fmt.Errorf("label %s of %s: %q is not NAME=PORT or NAME=PORT/PROTOCOL", LabelPorts, p.Name, item)
		}
		if !hasProto {
			proto = "tcp"
		}
		number8, known := protocolNumber(proto)
		if !known {
			return nil, fmt.Errorf("label %s of %s: %q names the protocol %q, which is not tcp, udp or sctp", LabelPorts, p.Name, item, proto)
		}
		all = append(all, namedPort{strings.TrimSpace(name), uint16(n), number8})
	}
	return all, nil
}

func protocolNumber(name string) (uint8, bool) {
	switch strings.ToLower(name) {
	case "tcp":
		return 6, true
	case "udp":
		return 17, true
	case "sctp":
		return 132, true
	}
	return 0, false
}

func protocolName(n uint8) string {
	switch n {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(int(n))
}
