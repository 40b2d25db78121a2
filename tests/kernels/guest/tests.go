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
	passed, skipped := 0, 0
	var failed []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(lines.Text())
		verdict, name, ok := testLine(lines.Text())
		switch {
		case !ok:
		case verdict == "PASS":
			passed++
		case verdict == "SKIP":
			skipped++
		default:
			failed = append(failed, name)
		}
	}
	detail := fmt.Sprintf("%d passed, %d skipped", passed, skipped)
	err = cmd.Wait()
	switch {
	case len(failed) > 0:
		return "", fmt.Errorf("%s, %d failed: %s", detail, len(failed), strings.Join(failed[:min(len(failed), 12)], ", "))
	case err != nil:
		return "", fmt.Errorf("%s: %w", detail, err)
	case passed == 0:
		return "", fmt.Errorf("%s: there are no tests", detail)
	}
	return detail, nil
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
