package dashboards

func hostBoard() board {
	return board{
		uid: "ebpfnet-host", file: "host.json", title: "ebpfnet / Host overview",
		help:      "What goes through the datapath of each host, what is refused, and how many it serves.",
		variables: []variable{instances(), bridges()},
		rows: []row{
			{"Now", []panel{
				number{title: "Traffic", help: "What the datapath delivers, on all ways. Each packet is counted once.", unit: "bps",
					expr: `sum(rate(ebpfnet_forwarded_bytes_total{instance=~"$instance",bridge=~"$bridge"}[$__rate_interval])) * 8`},
				number{title: "Packets", help: "What the datapath delivers, on all ways. A segment that the network card is to cut counts as its pieces.", unit: "pps",
					expr: `sum(rate(ebpfnet_forwarded_packets_total{instance=~"$instance",bridge=~"$bridge"}[$__rate_interval]))`},
				number{title: "Dropped", help: "What the datapath refuses, for all reasons. Below they are told apart.", unit: "pps", bad: 10,
					expr: `sum(rate(ebpfnet_dropped_packets_total{instance=~"$instance"}[$__rate_interval]))`},
				number{title: "Flows", help: "Flows in the flow tables when the agent last went through them.", unit: "short",
					expr: `sum(ebpfnet_flows{instance=~"$instance"})`},
				number{title: "Containers", help: "Endpoints on attached bridges: containers, and other namespaces behind a veth.", unit: "short",
					expr: `sum(ebpfnet_endpoints{instance=~"$instance",bridge=~"$bridge"})`},
				number{title: "Published ports", help: "Ports that lead to a running container; a range counts as its ports.", unit: "short",
					expr: `sum(ebpfnet_published_ports{instance=~"$instance"})`},
			}},
			{"Traffic", []panel{
				lines{title: "Traffic by way", help: "local: between containers of a bridge. in and out: from and to the outside. host: from and to the host itself. overlay: other hosts' containers.",
					unit: "bps", stacked: true, queries: []query{{
						`sum by (path) (rate(ebpfnet_forwarded_bytes_total{instance=~"$instance",bridge=~"$bridge"}[$__rate_interval])) * 8`, "{{path}}"}}},
				lines{title: "Packets by way", help: "The same in packets. Many packets with little traffic are small ones.", unit: "pps", stacked: true, queries: []query{{
					`sum by (path) (rate(ebpfnet_forwarded_packets_total{instance=~"$instance",bridge=~"$bridge"}[$__rate_interval]))`, "{{path}}"}}},
				lines{title: "Traffic by bridge", help: "What the datapath delivers for the containers of each bridge.", unit: "bps", queries: []query{{
					`sum by (instance, bridge) (rate(ebpfnet_forwarded_bytes_total{instance=~"$instance",bridge=~"$bridge"}[$__rate_interval])) * 8`,
					"{{instance}} {{bridge}}"}}},
				lines{title: "New flows", help: "Flows that are entered into the flow tables. The first packet of each is looked at closely; those after it are not.", unit: "ops",
					queries: []query{{`sum by (proto) (rate(ebpfnet_flows_begun_total{instance=~"$instance"}[$__rate_interval]))`, "{{proto}}"}}},
			}},
			{"What is not delivered", []panel{
				lines{title: "Drops by reason", help: "What is refused, and why. `ebpfnet monitor --drops` shows the packets one by one; docs/troubleshooting.md says what each reason means.",
					unit: "pps", queries: []query{{
						`sum by (reason) (rate(ebpfnet_dropped_packets_total{instance=~"$instance"}[$__rate_interval])) > 0`, "{{reason}}"}}},
				lines{title: "Left to the kernel, by reason", help: "What is not the datapath's to decide and goes on through the kernel's own path: ARP, IPv6, the host's own traffic, what Docker's rules decide.",
					unit: "pps", queries: []query{{
						`sum by (reason) (rate(ebpfnet_kernel_packets_total{instance=~"$instance"}[$__rate_interval])) > 0`, "{{reason}}"}}},
			}},
			{"Hosts", []panel{
				list{title: "Attached bridges", help: "The bridges with the datapath under them, the mode that each works in, and how many endpoints are on it.", width: 14,
					labels: map[string]string{"instance": "Host", "bridge": "Bridge", "mode": "Mode"},
					columns: []column{
						{"", "", `ebpfnet_bridge_mode{instance=~"$instance",bridge=~"$bridge"}`},
						{"Endpoints", "short", `ebpfnet_endpoints{instance=~"$instance",bridge=~"$bridge"}`},
					}},
				list{title: "Versions", help: "The agent on each host, and the Go that built it.", width: 10,
					labels:  map[string]string{"instance": "Host", "version": "Version", "goversion": "Go"},
					columns: []column{{"", "", `ebpfnet_build_info{instance=~"$instance"}`}}},
			}},
		},
	}
}
