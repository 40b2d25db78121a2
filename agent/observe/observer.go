package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ebpfnet/ebpfnet/policy"
)

// Config says where to look. The zero DockerHost is what DOCKER_HOST says, or Docker's usual socket. Containers and Networks are what Docker
// said when it was last asked by anybody: they hold until it answers.
type Config struct {
	DockerHost string
	Containers []policy.Container
	Networks   []policy.Network
	Rules      Rules
	Log        *slog.Logger
}

// Observer looks at the network namespace of the process and at one Docker engine.
type Observer struct {
	log     *slog.Logger
	engine  *engine
	changes chan struct{}
	rules   *rules
	ruled   chan struct{}
	torn    atomic.Bool

	mu       sync.Mutex
	closed   bool
	kernel   *kernel
	problems []string
}

// New opens the observer's sockets. An engine that does not answer is no error: it is asked again.
func New(c Config) (*Observer, error) {
	k, err := newKernel()
	if err != nil {
		return nil, err
	}
	e, err := newEngine(c.DockerHost, c.Log)
	if err != nil {
		k.close()
		return nil, err
	}
	e.last = answer{containers: c.Containers, networks: c.Networks}
	return &Observer{log: c.Log, engine: e, changes: make(chan struct{}, 1), ruled: make(chan struct{}, 1), rules: newRules(c.Rules), kernel: k}, nil
}

// Run follows the kernel's and Docker's events until the context ends.
func (o *Observer) Run(ctx context.Context) error {
	kernelEvents, err := subscribe(o.log)
	if err != nil {
		return fmt.Errorf("follow the kernel's devices and addresses: %w", err)
	}
	o.wake() // what changed before is not told
	var wg sync.WaitGroup
	wg.Go(func() {
		kernelEvents.follow(ctx, func(torn bool) {
			if torn {
				o.torn.Store(true)
			}
			o.wake()
		})
	})
	wg.Go(func() { o.rules.follow(ctx, o.wake) })
	wg.Go(func() {
		followRules(ctx, o.log, func(sure bool) {
			if sure {
				select {
				case o.ruled <- struct{}{}:
				default:
				}
			}
			o.rules.suspect()
		})
	})
	wg.Go(func() {
		o.engine.follow(ctx, func(rules bool) {
			if rules {
				o.rules.forget()
			}
			o.wake()
		})
	})
	wg.Wait()
	return nil
}

// Close releases the sockets. Run has to have ended. To Observe is an error from then on, as nothing is there to be seen with.
func (o *Observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.kernel.close()
	o.engine.close()
}

// Changes gives a value when something has changed since the last Observe began. Any number of events makes one value.
func (o *Observer) Changes() <-chan struct{} { return o.changes }

// Ruled gives a value when a netfilter rule has changed since it was taken last, before Changes tells what the rules are now. Of iptables'
// older backend it tells nothing.
func (o *Observer) Ruled() <-chan struct{} { return o.ruled }

// ForgetRules has the next Observe look at netfilter's rules as they are by then.
func (o *Observer) ForgetRules() { o.rules.forgetAll() }

// Torn tells, once, whether somebody has taken a qdisc or a filter off a device since it was asked last.
func (o *Observer) Torn() bool { return o.torn.Swap(false) }

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

// Observe looks at everything. An engine that does not answer leaves a problem, and Containers and Networks as it told them last; what the
// kernel does not tell is an error.
func (o *Observer) Observe(ctx context.Context) (policy.Observed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.problems = nil
	if o.closed {
		return policy.Observed{}, errors.New("look at the host: the observer is closed")
	}
	seen, err := o.kernel.look()
	if err != nil {
		return policy.Observed{}, err
	}
	rules, err := o.rules.look(ctx)
	if err != nil {
		o.problems = append(o.problems, err.Error())
		seen.RulesUnknown = err.Error()
	}
	seen.ForeignRules, seen.IPsec = rules.Foreign, rules.IPsec
	for i := range seen.Bridges {
		seen.Bridges[i].DockerRules = rules.Docker[seen.Bridges[i].Name]
	}
	said, err := o.engine.look(ctx)
	if err != nil {
		o.problems = append(o.problems, err.Error())
	}
	seen.Containers, seen.Networks = said.containers, said.networks
	return seen, nil
}
