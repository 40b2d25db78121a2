package dashboards

func containersBoard() board {
	const of = `{instance=~"$instance",bridge=~"$bridge",container=~"$container"}[$__rate_interval]`
	rate := func(metric string) string {
		return `sum by (container, bridge) (rate(ebpfnet_endpoint_` + metric + `_total` + of + `))`
	}
	const name = "{{container}} ({{bridge}})"
	return board{
		uid: "ebpfnet-containers", file: "containers.json", title: "ebpfnet / Containers",
		help: "What each container receives and sends, and what is dropped on its way.",
		variables: []variable{
			instances(), bridges(), containers(`ebpfnet_endpoint_receive_packets_total{instance=~"$instance",bridge=~"$bridge"}`),
		},
		rows: []row{
			{"Now", []panel{
				number{title: "Received", help: "By all of these containers, IPv4, link-layer headers included.", unit: "bps", width: 6, expr: `sum(` + rate("receive_bytes") + `) * 8`},
				number{title: "Sent", help: "By all of these containers, IPv4, link-layer headers included.", unit: "bps", width: 6, expr: `sum(` + rate("transmit_bytes") + `) * 8`},
				number{title: "Dropped on the way to them", help: "Packets towards these containers that the datapath refused.", unit: "pps", width: 6, bad: 10,
					expr: `sum(` + rate("receive_dropped_packets") + `)`},
				number{title: "Dropped when they sent", help: "Packets that these containers sent and that the datapath refused.", unit: "pps", width: 6, bad: 10,
					expr: `sum(` + rate("transmit_dropped_packets") + `)`},
			}},
			{"Traffic", []panel{
				lines{title: "Received", help: "IPv4 that each container receives, link-layer headers included.", unit: "bps", queries: []query{{rate("receive_bytes") + ` * 8`, name}}},
				lines{title: "Sent", help: "IPv4 that each container sends and that is not dropped, link-layer headers included.", unit: "bps",
					queries: []query{{rate("transmit_bytes") + ` * 8`, name}}},
				lines{title: "Packets received", help: "A segment that is to be cut counts as its pieces.", unit: "pps", queries: []query{{rate("receive_packets"), name}}},
				lines{title: "Packets sent", help: "A segment that is to be cut counts as its pieces.", unit: "pps", queries: []query{{rate("transmit_packets"), name}}},
				lines{title: "Mean size of packets", help: "Bytes for each packet that is received or sent. Small packets cost as much work as large ones.", unit: "bytes", width: columns,
					queries: []query{{
						`(` + rate("receive_bytes") + ` + ` + rate("transmit_bytes") + `) / (` + rate("receive_packets") + ` + ` + rate("transmit_packets") + ` > 0)`, name}}},
			}},
			{"Drops", []panel{
				lines{title: "Dropped on the way to a container", help: "Packets towards a container that the datapath refused. The Host overview has the reasons.", unit: "pps",
					queries: []query{{rate("receive_dropped_packets"), name}}},
				lines{title: "Dropped when a container sent", help: "Packets of a container that the datapath refused: somebody else's source address, another bridge, a closed network.", unit: "pps",
					queries: []query{{rate("transmit_dropped_packets"), name}}},
			}},
			{"All of them", []panel{
				list{title: "Containers", help: "What each container receives and sends now.", labels: map[string]string{"container": "Container", "bridge": "Bridge"},
					columns: []column{
						{"Received", "bps", rate("receive_bytes") + ` * 8`},
						{"Sent", "bps", rate("transmit_bytes") + ` * 8`},
						{"Packets received", "pps", rate("receive_packets")},
						{"Packets sent", "pps", rate("transmit_packets")},
						{"Dropped towards it", "pps", rate("receive_dropped_packets")},
						{"Dropped from it", "pps", rate("transmit_dropped_packets")},
					}},
			}},
		},
	}
}
