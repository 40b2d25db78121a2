package dashboards

func overlayBoard() board {
	rate := func(metric string) string {
		return `sum by (instance, peer) (rate(ebpfnet_peer_` + metric + `_total{instance=~"$instance",peer=~"$peer"}[$__rate_interval]))`
	}
	const name = "{{instance}} – {{peer}}"
	return board{
		uid: "ebpfnet-overlay", file: "overlay.json", title: "ebpfnet / Overlay",
		help:      "What hosts send each other for their containers, whether they hear each other, and how they get on with etcd.",
		variables: []variable{instances(), bridges(), {"peer", "Peer", `ebpfnet_peer_state{instance=~"$instance"}`}},
		rows: []row{
			{"Now", []panel{
				number{title: "Received", help: "From other hosts' containers, without what the tunnel adds.", unit: "bps", width: 6, expr: `sum(` + rate("receive_bytes") + `) * 8`},
				number{title: "Sent", help: "To other hosts' containers, without what the tunnel adds.", unit: "bps", width: 6, expr: `sum(` + rate("transmit_bytes") + `) * 8`},
				number{title: "Peers", help: "Hosts whose containers can be reached, as the hosts see it, added up.", unit: "short", width: 6,
					expr: `count(ebpfnet_peer_state{instance=~"$instance",peer=~"$peer"})`},
				number{title: "Longest silence", help: "Since a packet came from the peer that has been silent longest.", unit: "s", width: 6, bad: 300,
					expr: `max(time() - ebpfnet_peer_last_seen_timestamp_seconds{instance=~"$instance",peer=~"$peer"})`},
			}},
			{"Traffic", []panel{
				lines{title: "Received from peers", help: "From each other host's containers, without what the tunnel adds, link-layer headers included.", unit: "bps",
					queries: []query{{rate("receive_bytes") + ` * 8`, name}}},
				lines{title: "Sent to peers", help: "To each other host's containers, without what the tunnel adds, link-layer headers included.", unit: "bps",
					queries: []query{{rate("transmit_bytes") + ` * 8`, name}}},
				lines{title: "Packets", help: "From and to each other host.", unit: "pps",
					queries: []query{{rate("receive_packets"), name + " received"}, {rate("transmit_packets"), name + " sent"}}},
				lines{title: "By bridge", help: "Packets between containers here and on other hosts, by the bridge here.", unit: "pps",
					queries: []query{{`sum by (instance, bridge) (rate(ebpfnet_forwarded_packets_total{instance=~"$instance",bridge=~"$bridge",path="overlay"}[$__rate_interval]))`, "{{instance}} {{bridge}}"}}},
			}},
			{"Peers", []panel{
				list{title: "Peers", help: "Each host's view of the others: on which way it reaches their containers, and when it last heard of them.", width: 14,
					labels: map[string]string{"instance": "Host", "peer": "Peer", "state": "Way"},
					columns: []column{
						{"", "", `ebpfnet_peer_state{instance=~"$instance",peer=~"$peer"}`},
						{"Silent for", "s", `time() - ebpfnet_peer_last_seen_timestamp_seconds{instance=~"$instance",peer=~"$peer"}`},
					}},
				lines{title: "Refused", help: "no_peer: to an address of the hosts' network that no host has. not_peer: from such an address, by one who does not have it.", unit: "pps", width: 10,
					queries: []query{{`sum by (instance, reason) (rate(ebpfnet_dropped_packets_total{instance=~"$instance",reason=~"no_peer|not_peer"}[$__rate_interval]))`, "{{instance}} {{reason}}"}}},
			}},
			{"etcd", []panel{
				lines{title: "etcd answers", help: "1 while etcd answers, 0 while it does not. Without it the containers are served, but hosts that come or go are not noticed.", unit: "none",
					queries: []query{{`ebpfnet_etcd_connected{instance=~"$instance"}`, "{{instance}}"}}},
				lines{title: "Requests", help: "Errors; times that everything was read anew; renewals of this host's lease; records that made no peer.", unit: "ops",
					queries: []query{
						{`sum(rate(ebpfnet_etcd_errors_total{instance=~"$instance"}[$__rate_interval]))`, "errors"},
						{`sum(rate(ebpfnet_etcd_lists_total{instance=~"$instance"}[$__rate_interval]))`, "everything read"},
						{`sum(rate(ebpfnet_etcd_renewals_total{instance=~"$instance"}[$__rate_interval]))`, "renewals"},
						{`sum(rate(ebpfnet_etcd_rejected_total{instance=~"$instance"}[$__rate_interval]))`, "rejected records"},
					}},
			}},
		},
	}
}
