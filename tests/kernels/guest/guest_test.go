package main

import "testing"

func TestTestLine(t *testing.T) {
	for _, tt := range []struct {
		line, verdict, name string
		ok                  bool
	}{
		{"--- PASS: TestPackets (0.50s)", "PASS", "TestPackets", true},
		{"        --- FAIL: TestPackets/a/b (0.50s)", "FAIL", "TestPackets/a/b", true},
		{"--- SKIP: TestX (0.00s)", "SKIP", "TestX", true},
		{"=== RUN   TestX", "", "", false},
		{"--- BENCH: BenchmarkX", "", "", false},
		{"FAIL", "", "", false},
	} {
		verdict, name, ok := testLine(tt.line)
		if verdict != tt.verdict || name != tt.name || ok != tt.ok {
			t.Errorf("%q: %q, %q, %v", tt.line, verdict, name, ok)
		}
	}
}

func TestLogLines(t *testing.T) {
	for _, tt := range []struct {
		line, name, said string
		begins, logs     bool
	}{
		{line: "=== RUN   TestX/tcx", name: "TestX/tcx", begins: true},
		{line: "=== NAME  TestX", name: "TestX", begins: true},
		{line: "    attach_test.go:52: this kernel has no tcx (Linux 6.6)", said: "this kernel has no tcx (Linux 6.6)", logs: true},
		{line: "--- SKIP: TestX (0.00s)"},
		{line: "guest: run x.go:7: no"},
		{line: ""},
	} {
		name, begins := beginLine(tt.line)
		if begins != tt.begins || begins && name != tt.name {
			t.Errorf("%q begins %q, %v", tt.line, name, begins)
		}
		said, logs := logLine(tt.line)
		if logs != tt.logs || logs && said != tt.said {
			t.Errorf("%q says %q, %v", tt.line, said, logs)
		}
	}
}

func TestCompare(t *testing.T) {
	before := leftovers{"qdiscs": {"lo noqueue"}, kindBPF: {"program 1 test"}}
	for _, tt := range []struct {
		name string
		now  leftovers
		want string
	}{
		{"the same", leftovers{"qdiscs": {"lo noqueue"}, kindBPF: {"program 1 test"}}, ""},
		{"an old program is gone", leftovers{"qdiscs": {"lo noqueue"}}, ""},
		{"a new program", leftovers{"qdiscs": {"lo noqueue"}, kindBPF: {"program 2 ours"}}, "left behind of bpf objects: program 2 ours"},
		{"a setting is gone", leftovers{}, "gone of qdiscs: lo noqueue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := before.compare(tt.now); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%q, not %q", got, tt.want)
			}
		})
	}
}
