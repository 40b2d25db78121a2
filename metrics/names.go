package metrics

import "github.com/prometheus/client_golang/prometheus"

// Family is one metric as operators see it.
type Family struct {
	Name   string
	Type   string // counter, gauge or histogram
	Help   string
	Labels []string
}

// Families lists every metric of this project, each once.
func Families() []Family {
	f := families()
	return append(f.scraped(), f.buildInfo, f.reconcileDuration, f.reconcileErrors)
}

// scraped are those that the collector makes at each scrape.
func (f familySet) scraped() []Family {
	return []Family{
		f.forwardedPackets, f.forwardedBytes, f.droppedPackets, f.kernelPackets,
		f.endpointRxPackets, f.endpointRxBytes, f.endpointRxDropped, f.endpointTxPackets, f.endpointTxBytes, f.endpointTxDropped,
		f.mapEntries, f.mapCapacity, f.flows, f.publishedPorts, f.endpoints, f.bridgeMode, f.dockerConnected,
	}
}

// familySet is where names, help and labels are written.
type familySet struct {
	forwardedPackets, forwardedBytes                      Family
	droppedPackets, kernelPackets                         Family
	endpointRxPackets, endpointRxBytes, endpointRxDropped Family
	endpointTxPackets, endpointTxBytes, endpointTxDropped Family
	mapEntries, mapCapacity                               Family
	flows, publishedPorts, endpoints, bridgeMode          Family
	dockerConnected, buildInfo                            Family
	reconcileDuration, reconcileErrors                    Family
}

func families() familySet {
	endpoint := []string{"container", "bridge"}
	return familySet{
		forwardedPackets: counter("forwarded_packets_total",
			"Packets that the datapath delivered, each counted once.", "bridge", "path"),
		forwardedBytes: counter("forwarded_bytes_total",
			"Bytes of the packets that the datapath delivered, link-layer header included.", "bridge", "path"),
		droppedPackets: counter("dropped_packets_total",
			"Packets that the datapath dropped.", "reason"),
		kernelPackets: counter("kernel_packets_total",
			"Packets that the datapath left to the kernel's own network stack.", "reason"),

		endpointRxPackets: counter("endpoint_receive_packets_total",
			"IPv4 packets that a container received.", endpoint...),
		endpointRxBytes: counter("endpoint_receive_bytes_total",
			"Bytes of the IPv4 packets that a container received, link-layer header included.", endpoint...),
		endpointRxDropped: counter("endpoint_receive_dropped_packets_total",
			"Packets towards a container that the datapath dropped.", endpoint...),
		endpointTxPackets: counter("endpoint_transmit_packets_total",
			"IPv4 packets that a container sent and that were not dropped.", endpoint...),
		endpointTxBytes: counter("endpoint_transmit_bytes_total",
			"Bytes of the IPv4 packets that a container sent and that were not dropped, link-layer header included.", endpoint...),
		endpointTxDropped: counter("endpoint_transmit_dropped_packets_total",
			"Packets that a container sent and that the datapath dropped.", endpoint...),

		mapEntries: gauge("map_entries",
			"Entries in a map of the datapath when the agent last looked.", "map"),
		mapCapacity: gauge("map_capacity",
			"Entries that a map of the datapath has room for.", "map"),
		flows: gauge("flows",
			"Flows in the flow tables at the agent's last sweep.", "proto", "state"),
		publishedPorts: gauge("published_ports",
			"Published ports that lead to a running container; a range counts as its ports."),
		endpoints: gauge("endpoints",
			"Endpoints on an attached bridge.", "bridge"),
		bridgeMode: gauge("bridge_mode",
			"1 for the mode that an attached bridge works in.", "bridge", "mode"),

		dockerConnected: gauge("docker_connected",
			"1 while the agent follows Docker's events, 0 while it does not."),
		buildInfo: gauge("build_info",
			"1, with the version of the agent and of the Go that built it.", "version", "goversion"),
		reconcileDuration: Family{Name: "ebpfnet_reconcile_duration_seconds", Type: "histogram",
			Help: "Time from looking at the kernel and Docker until the datapath agrees with them."},
		reconcileErrors: counter("reconcile_errors_total",
			"Reconciliations that ended in an error."),
	}
}

func counter(name, help string, labels ...string) Family {
	return Family{Name: "ebpfnet_" + name, Type: "counter", Help: help, Labels: labels}
}

func gauge(name, help string, labels ...string) Family {
	return Family{Name: "ebpfnet_" + name, Type: "gauge", Help: help, Labels: labels}
}

func (f Family) desc() *prometheus.Desc { return prometheus.NewDesc(f.Name, f.Help, f.Labels, nil) }

func (f Family) valueType() prometheus.ValueType {
	if f.Type == "counter" {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}
