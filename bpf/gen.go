package bpf

// Run by `make generate`, which names the compiler and its flags in BPF2GO_CC, BPF2GO_STRIP and BPF2GO_CFLAGS.

//go:generate go tool bpf2go -target bpfel -go-package bpf -type zone -type flow_path -type verb -type flow_flag -type tcp_seen -type bridge_flag -type veth_flag -type direct_flag -type ident -type profile_id -type peer_kind -type peer_flag -type overlay_flag -type drop_reason -type pass_reason -type hook -type event -type counter -type endpoint_counters -type tally Datapath datapath.c
//go:generate go tool bpf2go -target bpfel -go-package bpf -no-global-types Sock sock.c
