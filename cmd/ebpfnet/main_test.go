package main

import (
	"errors"
	"flag"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write docs/commands.md")
	testscript.Main(m, map[string]func(){
		"ebpfnet": main,
	})
}

// What the command line says without an agent: wrong usage, and that nobody is there. No script needs privileges or leaves anything.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
			"line":  oneLine,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("EBPFNET_INSTANCE", "testscript-none")
			return nil
		},
	})
}

// exits CODE ARGS... runs ebpfnet and demands an exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want := args[0]
	err := ts.Exec("ebpfnet", args[1:]...)
	got := "0"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("run: %v", err)
	}
	if got != want {
		ts.Fatalf("exit code %s, want %s", got, want)
	}
}

// oneLine demands that standard error is one line.
func oneLine(ts *testscript.TestScript, _ bool, _ []string) {
	text := ts.ReadFile("stderr")
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("standard error is not one line: %q", text)
	}
}
