package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const referenceFile = "../../docs/commands.md"

// The reference is what the commands themselves say: `go test ./cmd/ebpfnet -run TestCommandReference -update` writes it.
func TestCommandReference(t *testing.T) {
	for _, env := range []string{"EBPFNET_INSTANCE", "DOCKER_HOST", metricsEnv, logFormatEnv, logLevelEnv} {
		t.Setenv(env, "")
	}
	want := reference(newRoot(&app{}))
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/commands.md is not what the commands say; write it anew with -update (-want +got)\n%s", diff)
	}
}

func reference(root *cobra.Command) string {
	var s strings.Builder
	s.WriteString("# Commands\n\n")
	s.WriteString("This page is made from the command line's own help by a test: `go test ./cmd/ebpfnet -run TestCommandReference -update` writes it anew.\n\n")
	s.WriteString(paragraphs(root.Long))
	s.WriteString("\nExit codes: 0 done, 1 failed, 2 wrong usage. A failure is one line on standard error that says what is wrong and what to do.\n")
	s.WriteString("\n## Flags of every command\n\n")
	writeFlags(&s, root.PersistentFlags())
	for _, c := range root.Commands() {
		writeCommand(&s, c)
	}
	return s.String()
}

func writeCommand(s *strings.Builder, c *cobra.Command) {
	if !c.IsAvailableCommand() {
		return
	}
	if c.HasSubCommands() && c.Name() != "completion" {
		for _, sub := range c.Commands() {
			writeCommand(s, sub)
		}
		return
	}
	fmt.Fprintf(s, "\n## %s\n\n", c.CommandPath())
	usage := strings.TrimSuffix(c.UseLine(), " [flags]")
	if c.Name() == "completion" {
		usage += " {bash|zsh|fish|powershell}"
	}
	fmt.Fprintf(s, "```\n%s\n```\n\n", usage)
	if parent := c.Parent(); len(parent.Aliases) > 0 {
		fmt.Fprintf(s, "Also as `%s %s %s`.\n\n", c.Root().Name(), strings.Join(parent.Aliases, ", "), c.Name())
	}
	if c.Name() == "completion" {
		s.WriteString(paragraphs("Print a script that completes commands for a shell; `ebpfnet completion SHELL --help` says how to load it."))
		return
	}
	s.WriteString(paragraphs(strings.TrimSuffix(c.Short, ".") + "."))
	if c.Long != "" {
		s.WriteString("\n" + paragraphs(c.Long))
	}
	if c.LocalFlags().HasAvailableFlags() {
		s.WriteString("\n")
		writeFlags(s, c.LocalFlags())
	}
}

func writeFlags(s *strings.Builder, flags *pflag.FlagSet) {
	s.WriteString("| flag | default | what it does |\n| --- | --- | --- |\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, text := pflag.UnquoteUsage(f)
		name := "`--" + f.Name
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if kind != "" {
			name += " " + strings.ToUpper(cmp.Or(map[string]string{"string": "text", "strings": "text", "uint32": "n", "uint16": "n", "uint": "n", "int": "n"}[kind], kind))
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(s, "| %s` | %s | %s |\n", name, value, strings.ReplaceAll(text, "|", `\|`))
	})
}

// paragraphs takes the line breaks out of help text, but for those between paragraphs, and quotes commands as Markdown does.
func paragraphs(text string) string {
	command := regexp.MustCompile(`'(ebpfnet [^']*)'`)
	var all []string
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		all = append(all, command.ReplaceAllString(strings.Join(strings.Fields(p), " "), "`$1`"))
	}
	return strings.Join(all, "\n\n") + "\n"
}
