// Package step is what the machine inside says to the one outside: a line for each step and a last line that says that it got to its end.
//
//	STEP forward ok 10.88.0.2 -> 10.88.0.3: tcp, udp
//	RC=0
//
// The invariant: each name and each form of a line stands here only.
package step

import (
	"fmt"
	"strconv"
	"strings"
)

// What can be asked of a machine, as words of its kernel's command line, which the kernel hands to init.
const (
	SkipEnv = "skip" // steps that are left out, with commas between them
	RunEnv  = "run"  // which tests to run, as go test's -run
	LessEnv = "less" // and which of them not, as its -skip

	NoVRFEnv = "novrf" // 1: nothing is tried with a bridge in a VRF
)

// Step is one thing that is tried on each kernel.
type Step struct {
	Name  string
	Means string // what has been shown where it is ok
}

// The steps' names.
const (
	Boots      = "boots"
	Features   = "features"
	Loads      = "loads"
	Packet     = "packet"
	Loader     = "loader"
	Hook       = "hook"
	Forward    = "forward"
	Masquerade = "masquerade"
	Publish    = "publish"
	Uplinks    = "uplinks"
	Repaired   = "repaired"
	Killed     = "killed"
	Detach     = "detach"
)

// All gives the steps in the order in which they are taken.
func All() []Step {
	return []Step{
		{Boots, "the kernel starts, its modules load and what the programs need is mounted"},
		{Features, "the features that `ebpfnet doctor` lists are there, but for those that the table of kernels says are not"},
		{Loads, "the verifier accepts every program; with how many instructions it looked at for the costliest"},
		{Packet, "the packet tests (tests/packet) pass; where the kernel's test run does not take the device that a packet came in by (5.10), the programs " +
			"read it from a word that the test fills instead, and the step `killed` has packets that came in by a device"},
		{Loader, "the loader's tests pass: programs are attached, replaced and taken off, with both kinds of hook where there are both"},
		{Hook, "`ebpfnet attach` puts one program on each hook, of the kind that the table of kernels says"},
		{Forward, "a container reaches another, over TCP and UDP, and the datapath carried it"},
		{Masquerade, "a container reaches a server outside, which sees the host's address"},
		{Publish, "`ebpfnet publish` to a running container: from outside with the client's address, from the host through each of its " +
			"addresses, from another container and from itself; `unpublish` ends it"},
		{Uplinks, "containers go out and are reached by a VLAN's device, also beside its parent, a bond, a team, a bridge and a macvlan, and with the bridge in a VRF; tun, ipip, gre and WireGuard are refused"},
		{Repaired, "programs are back on their hooks after somebody has deleted the device's clsact qdisc; where they hang on none, they stay"},
		{Killed, "without its agent (kill -9) the datapath serves whom it knows; with `--fail-closed` a container that comes meanwhile sends and gets " +
			"nothing until the next agent knows it, which leaves one program on each hook"},
		{Detach, "`ebpfnet detach --all` leaves no program, link, map, filter, qdisc, pin, file, sysctl or process"},
	}
}

// Result is how a step ended.
type Result struct {
	Step   string
	OK     bool
	Detail string // one line
}

// String is the result's line, without its end.
func (r Result) String() string {
	verdict := "FAIL"
	if r.OK {
		verdict = "ok"
	}
	return strings.TrimRight(fmt.Sprintf("STEP %s %s %s", r.Step, verdict, oneLine(r.Detail)), " ")
}

// ParseResult reads a result's line.
func ParseResult(line string) (Result, bool) {
	fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
	if len(fields) < 3 || fields[0] != "STEP" || fields[2] != "ok" && fields[2] != "FAIL" {
		return Result{}, false
	}
	r := Result{Step: fields[1], OK: fields[2] == "ok"}
	if len(fields) == 4 {
		r.Detail = fields[3]
	}
	return r, true
}

// End is the last line of a machine that got there, without its end.
func End(code int) string { return fmt.Sprintf("RC=%d", code) }

// ParseEnd reads the last line.
func ParseEnd(line string) (code int, ok bool) {
	rest, found := strings.CutPrefix(strings.TrimSpace(line), "RC=")
	code, err := strconv.Atoi(rest)
	return code, found && err == nil
}

// oneLine keeps a detail from being taken for more lines than it is.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
