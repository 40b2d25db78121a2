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
		f.publishedConnections, f.publishedRxPackets, f.publishedRxBytes, f.publishedTxPackets, f.publishedTxBytes,
		f.flowsBegun, f.flowsExpired, f.flowSweeps, f.flowSweepTime, f.natTries, f.natConflicts, f.natFailures, f.fragments, f.fragmentsHeld, f.fragmentsReleased,
		f.icmpErrors, f.sockets,
		f.peerRxPackets, f.peerRxBytes, f.peerTxPackets, f.peerTxBytes, f.peerSeen, f.peerState,
		f.etcdConnected, f.etcdErrors, f.etcdLists, f.etcdRenewals, f.etcdRejected, f.programRuns, f.programTime,
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
	publishedConnections                                  Family
	publishedRxPackets, publishedRxBytes                  Family
	publishedTxPackets, publishedTxBytes                  Family
	flowsBegun, flowsExpired, flowSweeps, flowSweepTime   Family
	natTries, natConflicts, natFailures                   Family
	fragments, fragmentsHeld, fragmentsReleased           Family
	icmpErrors, sockets                                   Family
	peerRxPackets, peerRxBytes, peerTxPackets             Family
	peerTxBytes, peerSeen, peerState                      Family
	etcdConnected, etcdErrors, etcdLists                  Family
	etcdRenewals, etcdRejected                            Family
	programRuns, programTime                              Family
}

func families() familySet {
	endpoint := []string{"container", "bridge"}
	published := []string{"published", "container", "proto"}
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

		publishedConnections: counter("published_connections_total",
			"Flows that were begun to a published port or range, from outside or from a container. The host's own sockets are not among them.", published...),
		publishedRxPackets: counter("published_receive_packets_total",
			"Packets to a published port or range that were delivered to its container.", published...),
		publishedRxBytes: counter("published_receive_bytes_total",
			"Bytes of the packets to a published port or range that were delivered, link-layer header included.", published...),
		publishedTxPackets: counter("published_transmit_packets_total",
			"Packets that the container of a published port or range answered with.", published...),
		publishedTxBytes: counter("published_transmit_bytes_total",
			"Bytes of the packets that the container of a published port or range answered with, link-layer header included.", published...),

		flowsBegun: counter("flows_begun_total",
			"Flows that were entered into the flow tables.", "proto"),
		flowsExpired: counter("flows_expired_total",
			"Flows that were forgotten, since the agent began, by cause: the state that they were idle in for too long, or container_gone.",
			"proto", "cause"),
		flowSweeps: counter("flow_sweeps_total",
			"Walks of the agent over the flow tables, which forget idle flows and count the rest."),
		flowSweepTime: counter("flow_sweep_seconds_total",
			"Time that these walks took."),
		natTries: Family{Name: "ebpfnet_nat_tries", Type: "histogram",
			Help: "Source ports that were tried for a flow whose source is translated until one was free, its own first."},
		natConflicts: counter("nat_conflicts_total",
			"Source ports that were tried for a flow and that another had already."),
		natFailures: counter("nat_failures_total",
			"Flows for which no source port was free."),
		fragments: counter("fragments_total",
			"Pieces of datagrams that the datapath carried, the first ones and the later ones.", "piece"),
		fragmentsHeld: counter("fragments_held_total",
			"Pieces of datagrams that came before their first piece, and were kept until it comes."),
		fragmentsReleased: counter("fragments_released_total",
			"Pieces that were kept and whose first piece came, so that they went on. The others of those kept were given up."),
		icmpErrors: counter("icmp_errors_translated_total",
			"ICMP errors about a flow of the datapath that were translated."),
		sockets: counter("sockets_translated_total",
			"Times that a socket of the host dialled a published port and was led to its container: a connection, or a datagram of a socket without one."),

		peerRxPackets: counter("peer_receive_packets_total",
			"Packets from another host's containers, or from that host through the tunnel.", "peer"),
		peerRxBytes: counter("peer_receive_bytes_total",
			"Bytes of the packets from another host, without what the tunnel adds, link-layer header included.", "peer"),
		peerTxPackets: counter("peer_transmit_packets_total",
			"Packets to another host's containers, or to that host through the tunnel.", "peer"),
		peerTxBytes: counter("peer_transmit_bytes_total",
			"Bytes of the packets to another host, without what the tunnel adds, link-layer header included.", "peer"),
		peerSeen: gauge("peer_last_seen_timestamp_seconds",
			"When a packet from another host came last, in seconds since 1970; none where there was none since the host became known.", "peer"),
		peerState: gauge("peer_state",
			"1 for the way on which another host's containers are reached: vxlan, udp or direct.", "peer", "state"),
		etcdConnected: gauge("etcd_connected",
			"1 while etcd answers, 0 while it does not; none where this host does not follow it."),
		etcdErrors: counter("etcd_errors_total",
			"Requests that etcd did not answer, and watches that broke."),
		etcdLists: counter("etcd_lists_total",
			"Times that everything was read from etcd."),
		etcdRenewals: counter("etcd_renewals_total",
			"Renewals of this host's lease."),
		etcdRejected: counter("etcd_rejected_total",
			"Records in etcd that made no peer, each time one came."),
		programRuns: counter("program_runs_total",
			"Runs of a program on its hooks, while the kernel counts them (sysctl kernel.bpf_stats_enabled).", "program"),
		programTime: counter("program_run_seconds_total",
			"Time that a program's runs took, while the kernel counts it (sysctl kernel.bpf_stats_enabled).", "program"),
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
