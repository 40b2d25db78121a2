package dashboards

func publishedBoard() board {
	const of = `{instance=~"$instance",container=~"$container"}[$__rate_interval]`
	rate := func(metric string) string {
		return `sum by (published, container) (rate(ebpfnet_published_` + metric + `_total` + of + `))`
	}
	const name = "{{published}} {{container}}"
	return board{
		uid: "ebpfnet-nat", file: "published.json", title: "ebpfnet / Published ports and NAT",
		help: "Who uses the published ports and how much, and whether containers find ports to leave with.",
		variables: []variable{
			instances(), bridges(), containers(`ebpfnet_published_connections_total{instance=~"$instance"}`),
		},
		rows: []row{
			{"Now", []panel{
				number{title: "Published ports", help: "Ports that lead to a running container; a range counts as its ports.", unit: "short",
					expr: `sum(ebpfnet_published_ports{instance=~"$instance"})`},
				number{title: "New connections", help: "Flows that begin to published ports, from outside or from containers.", unit: "ops",
					expr: `sum(` + rate("connections") + `)`},
				number{title: "The host's own", help: "Sockets of the host that dial a published port and are led to its container.", unit: "ops",
					expr: `sum(rate(ebpfnet_sockets_translated_total{instance=~"$instance"}[$__rate_interval]))`},
				number{title: "Tries for a port", help: "Source ports that are tried for a flow until one is free, on the average. 1: containers keep their own.", unit: "none", bad: 16,
					expr: `sum(rate(ebpfnet_nat_tries_sum{instance=~"$instance"}[$__rate_interval])) / (sum(rate(ebpfnet_nat_tries_count{instance=~"$instance"}[$__rate_interval])) > 0)`},
				number{title: "No port left", help: "Flows for which no source port was free: more hosts' addresses, or a wider range of ports, would help.", unit: "ops", bad: 0.001,
					expr: `sum(rate(ebpfnet_nat_failures_total{instance=~"$instance"}[$__rate_interval]))`},
				number{title: "Flow table", help: "How much of the table of answered flows is in use.", unit: "percentunit", bad: 0.9,
					expr: `max(ebpfnet_map_entries{instance=~"$instance",map="flows4"} / (ebpfnet_map_capacity{instance=~"$instance",map="flows4"} > 0))`},
			}},
			{"Published ports", []panel{
				lines{title: "New connections", help: "Flows that begin to each published port or range. The host's own sockets are not among them.", unit: "ops",
					queries: []query{{rate("connections"), name}}},
				lines{title: "Packets", help: "Delivered to the container, and back.", unit: "pps",
					queries: []query{{rate("receive_packets"), name + " to"}, {rate("transmit_packets"), name + " back"}}},
				lines{title: "Traffic to containers", help: "What each published port brings in, link-layer headers included.", unit: "bps",
					queries: []query{{rate("receive_bytes") + ` * 8`, name}}},
				lines{title: "Traffic back", help: "What the containers of published ports answer, link-layer headers included.", unit: "bps",
					queries: []query{{rate("transmit_bytes") + ` * 8`, name}}},
			}},
			{"Translation", []panel{
				lines{title: "Out and in", help: "Packets of flows that containers begin to the outside, and that the outside begins to published ports, by bridge.", unit: "pps",
					queries: []query{{
						`sum by (bridge, path) (rate(ebpfnet_forwarded_packets_total{instance=~"$instance",bridge=~"$bridge",path=~"in|out"}[$__rate_interval]))`, "{{bridge}} {{path}}"}}},
				lines{title: "Tries for a source port", help: "How many ports are tried for a flow until one is free: of half of the flows, and of all but one in a hundred, no more.", unit: "none",
					queries: []query{
						{`histogram_quantile(0.5, sum by (le) (rate(ebpfnet_nat_tries_bucket{instance=~"$instance"}[$__rate_interval])))`, "half"},
						{`histogram_quantile(0.99, sum by (le) (rate(ebpfnet_nat_tries_bucket{instance=~"$instance"}[$__rate_interval])))`, "99 of 100"},
					}},
				lines{title: "Conflicts and failures", help: "Ports that were tried and that another flow had already; flows for which there was none.", unit: "ops",
					queries: []query{
						{`sum(rate(ebpfnet_nat_conflicts_total{instance=~"$instance"}[$__rate_interval]))`, "conflicts"},
						{`sum(rate(ebpfnet_nat_failures_total{instance=~"$instance"}[$__rate_interval]))`, "failures"},
					}},
				lines{title: "ICMP errors translated", help: "Errors about a flow of the datapath, told in the addresses that its sender knows.", unit: "ops",
					queries: []query{{`sum by (instance) (rate(ebpfnet_icmp_errors_translated_total{instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"}}},
			}},
			{"Flows", []panel{
				lines{title: "Flows by protocol and state", help: "In the flow tables when the agent last went through them.", unit: "short", stacked: true,
					queries: []query{{`sum by (proto, state) (ebpfnet_flows{instance=~"$instance"})`, "{{proto}} {{state}}"}}},
				lines{title: "Flows forgotten", help: "Flows whose time was over, by the state that they were idle in; and those that went with their container.", unit: "ops",
					queries: []query{{`sum by (proto, cause) (rate(ebpfnet_flows_expired_total{instance=~"$instance"}[$__rate_interval]))`, "{{proto}} {{cause}}"}}},
			}},
		},
	}
}
