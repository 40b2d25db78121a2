package observe

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ebpfnet/ebpfnet/policy"
)

// rulesAge is how long a look at the netfilter rules serves. Docker writes its rules before it tells of a network, so they are also looked
// at again whenever Docker tells anything of its networks.
const rulesAge = 10 * time.Second

// Rules tells which bridges netfilter rules of Docker name.
type Rules func(context.Context) (func(bridge string) bool, error)

// Config says where to look. The zero DockerHost is Docker's usual socket.
type Config struct {
	DockerHost string
	Rules      Rules
	Log        *slog.Logger
}

// Observer looks at the network namespace of the process and at one Docker engine.
type Observer struct {
	log     *slog.Logger
	engine  *engine
	rules   Rules
	changes chan struct{}

	mu       sync.Mutex
	kernel   *kernel
	isDocker func(string) bool
	rulesAt  time.Time
	problems []string
}

// New opens the observer's sockets. An engine that does not answer is no error: it is asked again.
func New(c Config) (*Observer, error) {
	k, err := newKernel()
	if err != nil {
		return nil, err
	}
	e, err := newEngine(c.DockerHost)
	if err != nil {
		k.close()
		return nil, err
	}
	return &Observer{log: c.Log, engine: e, rules: c.Rules, changes: make(chan struct{}, 1), kernel: k}, nil
}

// Run follows the kernel's and Docker's events until the context ends.
func (o *Observer) Run(ctx context.Context) error {
	kernelEvents, err := subscribe()
	if err != nil {
		return fmt.Errorf("follow the kernel's devices and addresses: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { kernelEvents.follow(ctx, o.wake) })
	wg.Go(func() {
		o.engine.follow(ctx, func(network bool) {
			if network {
				o.forgetRules()
			}
			o.wake()
		})
	})
	wg.Wait()
	return nil
}

// Close releases the sockets. Run has to have ended.
func (o *Observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kernel.close()
	o.engine.close()
}

// Changes gives a value when something has changed since the last Observe began. Any number of events makes one value.
func (o *Observer) Changes() <-chan struct{} { return o.changes }

// Docker tells whether Docker's events are followed at this moment.
func (o *Observer) Docker() bool { return o.engine.following() }

// Problems tells what the last Observe could not see.
func (o *Observer) Problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.problems
}

func (o *Observer) wake() {
	select {
	case o.changes <- struct{}{}:
	default:
	}
}

func (o *Observer) forgetRules() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rulesAt = time.Time{}
}

// Observe looks at everything. An engine that does not answer leaves a problem, and Containers and Networks as it told them last; what the
// kernel does not tell is an error.
func (o *Observer) Observe(ctx context.Context) (policy.Observed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.problems = nil
	seen, err := o.kernel.look()
	if err != nil {
		return policy.Observed{}, err
	}
	o.lookAtRules(ctx)
	for i := range seen.Bridges {
		seen.Bridges[i].DockerRules = o.isDocker != nil && o.isDocker(seen.Bridges[i].Name)
	}
	said, err := o.engine.look(ctx)
	if err != nil {
		o.problems = append(o.problems, err.Error())
	}
	seen.Containers, seen.Networks = said.containers, said.networks
	return seen, nil
}

// lookAtRules keeps the last answer where the rules cannot be read.
func (o *Observer) lookAtRules(ctx context.Context) {
	if o.rules == nil || time.Since(o.rulesAt) < rulesAge {
		return
	}
	isDocker, err := o.rules(ctx)
	if err != nil {
		o.problems = append(o.problems, fmt.Sprintf("read netfilter rules: %v", err))
		return
	}
	o.isDocker, o.rulesAt = isDocker, time.Now()
}
