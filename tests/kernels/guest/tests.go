package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// runTests runs the test binary of a folder and counts. The tests' own output goes where ours does.
func runTests(dir string) (string, error) {
	restore, err := lockMemory()
	if err != nil {
		return "", err
	}
	defer restore()
	cmd := exec.Command(dir+"/run", "-test.v", "-test.timeout=50m", "-test.run="+os.Getenv(step.RunEnv), "-test.skip="+os.Getenv(step.LessEnv))
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var tests step.Tests
	var failed []string
	var running, said string
	reasons := map[string]string{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(lines.Text())
		if name, ok := beginLine(lines.Text()); ok {
			running = name
		} else if said, ok = logLine(lines.Text()); ok {
			reasons[running] = said // the last that it says before it is left out
		}
		verdict, name, ok := testLine(lines.Text())
		switch {
		case !ok:
		case verdict == "PASS":
			tests.Passed++
		case verdict == "SKIP":
			tests.Skipped(reasons[name])
		default:
			failed = append(failed, name)
		}
	}
	detail := tests.String()
	err = cmd.Wait()
	switch {
	case len(failed) > 0:
		return "", fmt.Errorf("%s, %d failed: %s", detail, len(failed), strings.Join(failed[:min(len(failed), 12)], ", "))
	case err != nil:
		return "", fmt.Errorf("%s: %w", detail, err)
	case tests.Passed == 0:
		return "", fmt.Errorf("%s: there are no tests", detail)
	}
	return detail, nil
}

// beginLine reads "=== RUN   TestX/y", and the other lines that say whose the next ones are.
func beginLine(line string) (name string, ok bool) {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "===" {
		return "", false
	}
	return words[2], true
}

// logLine reads "    x_test.go:7: what a test says".
func logLine(line string) (said string, ok bool) {
	at, said, found := strings.Cut(strings.TrimSpace(line), ": ")
	file, _, colon := strings.Cut(at, ".go:")
	return said, found && colon && !strings.ContainsAny(file, " \t")
}

// testLine reads "--- PASS: TestX/y (0.01s)", however far it stands to the right.
func testLine(line string) (verdict, name string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), "--- ")
	verdict, rest, found := strings.Cut(rest, ": ")
	name, _, _ = strings.Cut(rest, " ")
	if !ok || !found || verdict != "PASS" && verdict != "FAIL" && verdict != "SKIP" {
		return "", "", false
	}
	return verdict, name, true
}
