package dashboards

func healthBoard() board {
	// What is asked of a native histogram where Prometheus keeps one, and of the buckets where it does not.
	quantile := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(ebpfnet_reconcile_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))
			or histogram_quantile(` + q + `, sum(rate(ebpfnet_reconcile_duration_seconds{instance=~"$instance"}[$__rate_interval])))`
	}
	return board{
		uid: "ebpfnet-health", file: "health.json", title: "ebpfnet / Datapath health",
		help:      "How full the tables are, what the programs cost, and whether the agent keeps up.",
		variables: []variable{instances()},
		rows: []row{
			{"Now", []panel{
				number{title: "Agents", help: "Agents that answer.", unit: "short", expr: `count(ebpfnet_build_info{instance=~"$instance"})`},
				number{title: "Follow Docker", help: "Agents that follow Docker's events. The others learn of containers from the kernel, without their names and ports.", unit: "short",
					expr: `sum(ebpfnet_docker_connected{instance=~"$instance"})`},
				number{title: "Fullest table", help: "How much of the fullest table is in use.", unit: "percentunit", bad: 0.9,
					expr: `max(ebpfnet_map_entries{instance=~"$instance"} / (ebpfnet_map_capacity{instance=~"$instance"} > 0))`},
				number{title: "Errors of the agent", help: "Runs of the agent's loop that ended in an error. `ebpfnet status` says which.", unit: "ops", bad: 0.001,
					expr: `sum(rate(ebpfnet_reconcile_errors_total{instance=~"$instance"}[$__rate_interval]))`},
				number{title: "Memory of the agent", help: "Of the largest agent. The tables are the kernel's; `ebpfnet doctor` says what they take.", unit: "bytes",
					expr: `max(process_resident_memory_bytes and on (instance) ebpfnet_build_info{instance=~"$instance"})`},
				number{title: "Runs since", help: "How long the agent that began last has been running.", unit: "s",
					expr: `min(time() - process_start_time_seconds and on (instance) ebpfnet_build_info{instance=~"$instance"})`},
			}},
			{"Tables", []panel{
				bars{title: "In use", help: "How much of each table is in use. What does not fit is not carried, or pushes out what is idle.", bad: 0.9,
					query: query{`max by (map) (ebpfnet_map_entries{instance=~"$instance"} / (ebpfnet_map_capacity{instance=~"$instance"} > 0))`, "{{map}}"}},
				list{title: "Tables", help: "Entries in each table, and what it has room for.", width: columns / 2, labels: map[string]string{"map": "Table"},
					columns: []column{
						{"Entries", "short", `max by (map) (ebpfnet_map_entries{instance=~"$instance"})`},
						{"Room", "short", `max by (map) (ebpfnet_map_capacity{instance=~"$instance"})`},
					}},
				lines{title: "Entries", help: "How many entries each table has over time.", unit: "short", width: columns,
					queries: []query{{`max by (map) (ebpfnet_map_entries{instance=~"$instance"})`, "{{map}}"}}},
			}},
			{"Programs", []panel{
				lines{title: "Time of a run", help: "What a program takes for one packet. Shown while the kernel counts it: `sysctl kernel.bpf_stats_enabled=1`, which itself costs a little.", unit: "s",
					queries: []query{{
						`sum by (program) (rate(ebpfnet_program_run_seconds_total{instance=~"$instance"}[$__rate_interval]))
							/ (sum by (program) (rate(ebpfnet_program_runs_total{instance=~"$instance"}[$__rate_interval])) > 0)`, "{{program}}"}}},
				lines{title: "Share of a processor", help: "How much of one processor each program takes, while the kernel counts it.", unit: "percentunit", stacked: true,
					queries: []query{{`sum by (program) (rate(ebpfnet_program_run_seconds_total{instance=~"$instance"}[$__rate_interval]))`, "{{program}}"}}},
				lines{title: "Runs", help: "How often each program runs, while the kernel counts it.", unit: "ops",
					queries: []query{{`sum by (program) (rate(ebpfnet_program_runs_total{instance=~"$instance"}[$__rate_interval]))`, "{{program}}"}}},
				lines{title: "Pieces of datagrams", help: "Pieces that the datapath carries. Those after the first have no ports, and follow it; those that come before it are kept until it comes.", unit: "pps",
					queries: []query{
						{`sum by (piece) (rate(ebpfnet_fragments_total{instance=~"$instance"}[$__rate_interval]))`, "{{piece}}"},
						{`sum(rate(ebpfnet_fragments_held_total{instance=~"$instance"}[$__rate_interval]))`, "kept"},
						{`sum(rate(ebpfnet_fragments_released_total{instance=~"$instance"}[$__rate_interval]))`, "kept, and carried then"},
					}},
			}},
			{"The agent", []panel{
				lines{title: "Time of a reconciliation", help: "From looking at the kernel and Docker until the datapath agrees with them.", unit: "s",
					queries: []query{{quantile("0.5"), "half"}, {quantile("0.99"), "99 of 100"}}},
				lines{title: "Reconciliations", help: "How often the agent's loop runs, and how often that ends in an error.", unit: "ops",
					queries: []query{
						{`sum(rate(ebpfnet_reconcile_duration_seconds_count{instance=~"$instance"}[$__rate_interval]))
							or histogram_count(sum(rate(ebpfnet_reconcile_duration_seconds{instance=~"$instance"}[$__rate_interval])))`, "runs"},
						{`sum(rate(ebpfnet_reconcile_errors_total{instance=~"$instance"}[$__rate_interval]))`, "errors"},
					}},
				lines{title: "Time of a walk over the flow tables", help: "The agent walks over them to forget idle flows and to count the rest, less often where that takes long.", unit: "s", width: columns,
					queries: []query{{
						`sum by (instance) (rate(ebpfnet_flow_sweep_seconds_total{instance=~"$instance"}[$__rate_interval]))
							/ (sum by (instance) (rate(ebpfnet_flow_sweeps_total{instance=~"$instance"}[$__rate_interval])) > 0)`, "{{instance}}"}}},
				lines{title: "Processor", help: "How much of one processor the agent takes. Packets are not its work.", unit: "percentunit",
					queries: []query{{`rate(process_cpu_seconds_total[$__rate_interval]) and on (instance) ebpfnet_build_info{instance=~"$instance"}`, "{{instance}}"}}},
				lines{title: "Memory", help: "Of the agent. The tables are the kernel's; `ebpfnet doctor` says what they take.", unit: "bytes",
					queries: []query{{`process_resident_memory_bytes and on (instance) ebpfnet_build_info{instance=~"$instance"}`, "{{instance}}"}}},
			}},
		},
	}
}
