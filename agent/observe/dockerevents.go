package observe

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// reconnectAfter is how long to wait before an engine is asked again that is not there.
const reconnectAfter = time.Second

// following tells whether the engine's events come in.
func (e *engine) following() bool { return e.events.Load() }

// follow calls wake for every event that may matter, and when the engine has come or gone, until the context ends. network is set where
// Docker's networks, and so its netfilter rules, may have changed.
func (e *engine) follow(ctx context.Context, wake func(network bool)) {
	for ctx.Err() == nil {
		if !e.absent() {
			e.stream(ctx, wake)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter):
		}
	}
}

// stream follows one connection to its end. What happened before it began is not told, so its beginning is a reason to look, and so is its
// end: live-restore lets an engine come back without a word about its containers.
func (e *engine) stream(ctx context.Context, wake func(network bool)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res := e.api.Events(ctx, client.EventsListOptions{Filters: eventFilters()})
	defer e.events.Store(false)
	if !e.answers(ctx) {
		return
	}
	e.events.Store(true)
	wake(true)
	for {
		select {
		case m := <-res.Messages:
			wake(m.Type == events.NetworkEventType || m.Type == events.DaemonEventType)
		case <-res.Err:
			wake(true)
			return
		case <-ctx.Done():
			return
		}
	}
}

// answers tells whether the engine is there: the stream of events says nothing until there is an event.
func (e *engine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := e.api.Ping(ctx, client.PingOptions{})
	return err == nil
}

func eventFilters() client.Filters {
	return client.Filters{}.
		Add("type", string(events.ContainerEventType), string(events.NetworkEventType), string(events.DaemonEventType)).
		Add("event", "start", "die", "destroy", "rename", "pause", "unpause", "update",
			"connect", "disconnect", "create", "remove", "reload")
}
