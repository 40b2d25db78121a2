package loader

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
)

// loadTogether is ebpf.NewCollectionWithOptions that takes what is kept of an object, and of the rest hands the kernel as many programs at a time
// as there are processors. It looks at every way through a program before it takes it, which for the large ones is the better part of an agent's
// start.
func loadTogether(spec *ebpf.CollectionSpec, opts ebpf.CollectionOptions, k *kept) (_ *ebpf.Collection, err error) {
	shared := spec.Copy()
	shared.Programs = nil
	opts.MapReplacements = k.loose
	coll, err := ebpf.NewCollectionWithOptions(shared, opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			coll.Close()
		}
	}()
	names := slices.SortedFunc(maps.Keys(spec.Programs), func(a, b string) int {
		return len(spec.Programs[b].Instructions) - len(spec.Programs[a].Instructions)
	})
	programs, errs := make([]*ebpf.Program, len(names)), make([]error, len(names))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, name := range names {
		if old := k.programs[name]; old != nil {
			programs[i], errs[i] = old.Clone()
			continue
		}
		free <- struct{}{} // the longest first, in this order
		one := spec.Copy()
		one.Programs = map[string]*ebpf.ProgramSpec{name: one.Programs[name]}
		wg.Go(func() {
			defer func() { <-free }()
			programs[i], errs[i] = loadOne(name, one, coll.Maps)
		})
	}
	wg.Wait()
	for i, name := range names {
		if programs[i] != nil {
			coll.Programs[name] = programs[i]
		}
	}
	return coll, errors.Join(errs...)
}

// loadOne loads a collection's only program over maps that are there.
func loadOne(name string, spec *ebpf.CollectionSpec, have map[string]*ebpf.Map) (*ebpf.Program, error) {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: have})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(name), nil
}
