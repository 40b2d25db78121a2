package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
)

// verify loads each program by itself, so that one that is refused does not hide the next, and prints how much the verifier had to do.
func verify(f loader.Features) (string, error) {
	restore, err := lockMemory()
	if err != nil {
		return "", err
	}
	defer restore()
	var errs []error
	count, most, costliest := 0, 0, ""
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadDatapath, bpf.LoadSock} {
		spec, err := load()
		if err != nil {
			return "", err
		}
		if err := configure(spec, f); err != nil {
			return "", err
		}
		for _, name := range programNames(spec) {
			insns, err := verifyOne(spec, name)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			if count++; insns > most {
				most, costliest = insns, name
			}
		}
	}
	return fmt.Sprintf("%d programs, %d instructions for %s", count, most, costliest), errors.Join(errs...)
}

// lockMemory lifts the limit of locked memory, which maps count against before Linux 5.11, until restore: the product has to see to that
// itself.
func lockMemory() (restore func(), err error) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before); err != nil {
		return nil, fmt.Errorf("read limit of locked memory: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
		return nil, fmt.Errorf("lift limit of locked memory: %w", err)
	}
	return func() { _ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before) }, nil
}

// configure sets what the loader would, for the verifier leaves out what a setting rules out.
func configure(spec *ebpf.CollectionSpec, f loader.Features) error {
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	flag := map[bool]uint8{true: 1}
	for name, value := range map[string]any{
		bpf.DatapathVarHasFibSkipNeigh: flag[f.FibSkipNeigh],
		bpf.DatapathVarHasFibSrc:       flag[f.FibSrc],
		bpf.DatapathVarHasTunnelLocal:  flag[f.TunnelLocal],
	} {
		if v, ok := spec.Variables[name]; ok {
			if err := v.Set(value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	return nil
}

func programNames(spec *ebpf.CollectionSpec) []string {
	var names []string
	for name := range spec.Programs {
		names = append(names, name)
	}
	return sorted(names)
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// verifyOne loads one program and gives the number of instructions that the verifier looked at.
func verifyOne(spec *ebpf.CollectionSpec, name string) (int, error) {
	one := spec.Copy()
	for other := range one.Programs {
		if other != name {
			delete(one.Programs, other)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		return 0, explain(one.Copy(), err)
	}
	defer coll.Close()
	log := strings.TrimSpace(coll.Programs[name].VerifierLog)
	fmt.Printf("verifier: %s: %s\n", name, strings.ReplaceAll(log, "\n", "; "))
	m := regexp.MustCompile(`processed (\d+) insns`).FindStringSubmatch(log)
	if m == nil {
		return 0, errors.New("the verifier says nothing of how much it did")
	}
	return strconv.Atoi(m[1])
}

// explain loads a refused program once more, for the verifier's account of it, and prints the end of that.
func explain(one *ebpf.CollectionSpec, refusal error) error {
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelBranch | ebpf.LogLevelStats},
	})
	if err == nil {
		coll.Close()
		return fmt.Errorf("refused once: %w", refusal)
	}
	var verifier *ebpf.VerifierError
	if !errors.As(err, &verifier) {
		return refusal
	}
	for _, line := range verifier.Log[max(0, len(verifier.Log)-60):] {
		fmt.Println("verifier:", line)
	}
	return refusal
}
