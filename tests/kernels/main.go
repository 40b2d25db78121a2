package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	cache, archive string
	skip, tests    string
	less           string
	timeout, fresh time.Duration
	memory, jobs   int
	smoke          bool
}

func run(ctx context.Context, args []string) (bool, error) {
	var o options
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	flags.StringVar(&o.cache, "cache", "", "folder for packages and logs (default: .cache/kernels beside go.mod)")
	flags.StringVar(&o.archive, "archive", "", "where Debian's archive is (default: where apt is configured to look)")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "for one kernel")
	flags.DurationVar(&o.fresh, "fresh", 24*time.Hour, "how old the archive's lists may be")
	flags.IntVar(&o.memory, "memory", 1024, "of a machine, in MiB")
	flags.IntVar(&o.jobs, "jobs", 1, "how many machines run at a time")
	flags.StringVar(&o.skip, "skip", "", "steps to leave out, as in packet,loader; they count as failed")
	flags.BoolVar(&o.smoke, "smoke", false, "leave out what takes longest: loads, loader and some packet tests; and run two machines at a time")
	flags.StringVar(&o.tests, "run", "", "which packet and loader tests to run (default: all)")
	doc := flags.Bool("doc", false, "write docs/kernels.md and do nothing else")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	module, err := findModule()
	if err != nil {
		return false, err
	}
	if *doc {
		return true, os.WriteFile(filepath.Join(module, "docs", "kernels.md"), []byte(document()), 0o644)
	}
	if o.smoke {
		o.skip, o.tests, o.less, o.jobs = strings.Join(leftOut(), ","), quickTests, slowTests, max(o.jobs, 2)
	}
	if o.cache == "" {
		o.cache = filepath.Join(module, ".cache", "kernels")
	}
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return false, err
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return false, err
	}
	return bootAll(ctx, module, chosen, o)
}

// leftOut are the steps that a smoke test does without. Verifiers are slow where the processor is emulated, and the other steps have all
// programs loaded twice as it is.
func leftOut() []string { return []string{step.Loads, step.Loader} }

// quickTests are the packet tests that load the programs once and then run packets through them, more than a thousand cases; slowTests are
// some among them that take more than half of the time: they send packets by the thousand, or publish every port there is.
const (
	quickTests = "^TestPackets$"
	slowTests  = "^TestPackets$/^(random|flood|every_port|errors_in)$"
)

// choose gives the kernels of these names, all for none.
func choose(names []string) ([]kernel, error) {
	if len(names) == 0 {
		return kernels(), nil
	}
	var chosen []kernel
	for _, name := range names {
		i := slices.IndexFunc(kernels(), func(k kernel) bool { return k.name == name })
		if i < 0 {
			var known []string
			for _, k := range kernels() {
				known = append(known, k.name)
			}
			return nil, fmt.Errorf("kernel %s: not one of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, kernels()[i])
	}
	return chosen, nil
}

func bootAll(ctx context.Context, module string, chosen []kernel, o options) (bool, error) {
	programs := filepath.Join(o.cache, "programs")
	fmt.Println("building the programs")
	if err := build(module, programs); err != nil {
		return false, err
	}
	d := &debian{dir: filepath.Join(o.cache, "apt"), fresh: o.fresh, log: func(f string, args ...any) { fmt.Printf(f+"\n", args...) }}
	sources, err := machineSources(o.archive)
	if err != nil {
		return false, err
	}
	var suites []string
	for _, k := range kernels() {
		suites = append(suites, k.suites...)
	}
	if err := d.update(sources, suites); err != nil {
		return false, err
	}
	var all []*outcome
	var machines errgroup.Group
	machines.SetLimit(max(o.jobs, 1))
	for _, k := range chosen {
		if ctx.Err() != nil {
			break
		}
		out := &outcome{kernel: k, version: "-", console: filepath.Join(o.cache, "log", k.name+".log")}
		all = append(all, out)
		if o.smoke {
			out.left, out.part = leftOut(), []string{step.Packet}
		}
		m := machine{console: out.console, memory: o.memory, skip: o.skip, tests: o.tests, less: o.less, noVRF: slices.Contains(k.leaves, step.NoVRF), initramfs: filepath.Join(o.cache, "initramfs-"+k.name)}
		// One at a time: apt's folders are everybody's.
		if out.version, m.kernel, out.err = fetch(d, k, programs, m); out.err != nil {
			continue
		}
		machines.Go(func() error {
			out.boot(ctx, m, o.timeout)
			return nil
		})
	}
	_ = machines.Wait() // what went wrong stands in the outcomes
	for _, out := range all {
		out.judge()
	}
	fmt.Println()
	failed := slices.ContainsFunc(all, func(out *outcome) bool { return !out.passed() })
	return !failed && len(all) == len(chosen), writeTable(os.Stdout, all)
}

// fetch makes a kernel's machine ready: the version of its package, and the file that the kernel is in.
func fetch(d *debian, k kernel, programs string, m machine) (version, image string, err error) {
	packages, err := d.find(k)
	if err != nil {
		return "-", "", err
	}
	image, err = prepare(d, packages, programs, m)
	return packages[0].version, image, err
}

// boot starts the machine, and reads what it says.
func (o *outcome) boot(ctx context.Context, m machine, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fmt.Printf("booting %s (%s)\n", o.kernel.name, o.version)
	began := time.Now()
	o.results, o.code, o.ended, o.err = m.run(ctx, func(r step.Result) {
		fmt.Printf("%6.0fs %s: %s\n", time.Since(began).Seconds(), o.kernel.name, strings.TrimPrefix(r.String(), "STEP "))
	})
	if found, err := troubles(m.console); err == nil && len(found) > 0 {
		fmt.Println(strings.Join(found, "\n...\n"))
		if o.err == nil {
			o.err = fmt.Errorf("the kernel complained %d times (see %s)", len(found), m.console)
		}
	}
}

// prepare makes the machine's files and names the kernel.
func prepare(d *debian, packages []pkg, programs string, m machine) (string, error) {
	root, err := d.unpack(packages)
	if err != nil {
		return "", err
	}
	kernel, err := vmlinuz(root)
	if err != nil {
		return "", err
	}
	tree, err := findModules(root)
	if err != nil {
		return "", err
	}
	modules, err := tree.closure(wanted())
	if err != nil {
		return "", err
	}
	img, err := image(programs, modules)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(m.console), 0o755); err != nil {
		return "", err
	}
	return kernel, os.WriteFile(m.initramfs, img, 0o644)
}

// findModule gives the folder of this project's go.mod.
func findModule() (string, error) {
	out, err := output("go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find go.mod: run this inside the project")
	}
	return filepath.Dir(mod), nil
}
