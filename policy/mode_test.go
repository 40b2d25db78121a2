package policy

import (
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// K-11: over Docker's rules, those of others have a bridge in mode auto offloaded; where nobody else would translate they are a problem. What was
// asked for by name is done.
func TestMode(t *testing.T) {
	const rule = "filter DOCKER-USER: -j DROP"
	tests := []struct {
		name    string
		asked   string
		docker  bool
		foreign []string
		mode    string
		reason  string
		problem string
	}{
		{name: "nothing in the way", asked: ModeAuto, mode: ModeNative, reason: "no netfilter rules"},
		{name: "Docker's", asked: ModeAuto, docker: true, mode: ModeNative, reason: "Docker's own"},
		{name: "others' beside Docker's", asked: ModeAuto, docker: true, foreign: []string{rule}, mode: ModeOffload, reason: rule},
		{name: "others' alone", asked: ModeAuto, foreign: []string{rule}, mode: ModeNative, reason: "nobody else would", problem: rule},
		{name: "native by name", asked: ModeNative, docker: true, foreign: []string{rule}, mode: ModeNative, reason: "asked for"},
		{name: "offload by name", asked: ModeOffload, mode: ModeOffload, reason: "asked for"},
		{name: "offload by name, over Docker's", asked: ModeOffload, docker: true, mode: ModeOffload, reason: "asked for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := machine()
			o.ForeignRules = tt.foreign
			for i := range o.Bridges {
				o.Bridges[i].DockerRules = tt.docker
			}
			in := Intent{Bridges: []BridgeIntent{{Name: "docker0", Mode: tt.asked}}, Publish: []PublishIntent{{Spec: mustParse(t, "9000:80"), Target: "web"}}}
			r := Compile(o, in, newIDs())
			b := r.Bridges[0]
			if b.Mode != tt.mode || !strings.Contains(b.Reason, tt.reason) {
				t.Errorf("mode %s, because %s", b.Mode, b.Reason)
			}
			offload := bpf.DatapathBridgeFlagBRIDGE_OFFLOAD | bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES
			if flags := r.State.Bridges[uint32(b.Index)].Flags; (flags&offload == offload) != (tt.mode == ModeOffload) {
				t.Errorf("flags %#x", flags)
			}
			problems := strings.Join(r.Problems, "\n")
			if tt.problem != "" && !strings.Contains(problems, tt.problem) {
				t.Errorf("problems: %s", problems)
			}
			// Nobody would translate for a port of the user's where the rules decide.
			p := r.Ports[len(r.Ports)-1]
			if p.Active != (tt.mode == ModeNative) || !p.Active && !strings.Contains(p.Inactive, "docker run -p") {
				t.Errorf("published port: active %v, because %q", p.Active, p.Inactive)
			}
			if !p.Active != strings.Contains(problems, "is not in force") {
				t.Errorf("problems: %s", problems)
			}
		})
	}
}
