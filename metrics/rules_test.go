package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The rules say what their own tests want, and ask for no metric that is not shown.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: install Debian's package prometheus")
		}
		t.Skip("promtool is missing: install Debian's package prometheus")
	}
	all, err := filepath.Glob("rules/*.yml")
	if err != nil || len(all) < 3 {
		t.Fatalf("rules: %v %v", all, err)
	}
	known := make(map[string]bool)
	for _, f := range Families() {
		known[f.Name] = true
	}
	// A recorded name has colons, and no metric of ours has.
	name := regexp.MustCompile(`[a-z_:]*ebpfnet_[a-z_:0-9]+`)
	var rules []string
	for _, file := range all {
		verb := "rules"
		if strings.HasSuffix(file, "_test.yml") {
			verb = ""
		} else {
			rules = append(rules, file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			if !known[n] && !strings.Contains(n, ":") {
				t.Errorf("%s: no metric is called %s", file, n)
			}
		}
		args := []string{"check", verb, file}
		if verb == "" {
			args = []string{"test", "rules", file}
		}
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if len(rules) == 0 {
		t.Error("no rules")
	}
}
