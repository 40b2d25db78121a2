// Package rules compiles the users' rules, written as Kubernetes NetworkPolicy objects (networking.k8s.io/v1), to what the datapath is judged
// by: a class for each address, a profile of ports for two classes, and a verdict for each port of a profile.
//
// A container is a pod: its labels are the pod's, and its Compose project, else its Docker network, is the namespace. The package does no
// input or output, and everything it decides is a function of pods and policies alone; numbers are remembered from one compilation to the
// next so that a small change stays small in the maps.
//
// It must not import anything of this project but bpf and maps.
package rules
