package observe

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// reconnectAfter is how long to wait before an engine is asked again that is not there.
const reconnectAfter = time.Second

// following tells whether the engine's events come in.
func (e *engine) following() bool { return e.events.Load() }

// settle is how long after an event the lists have caught up. Docker tells that a container has been connected to a network, or
// disconnected, before its list of containers says so.
const settle = 300 * time.Millisecond

// follow calls wake for every event that may matter, and when the engine has come or gone, until the context ends. rules is set where
// Docker's netfilter rules around bridges may have changed.
func (e *engine) follow(ctx context.Context, wake func(rules bool)) {
	for ctx.Err() == nil {
		if !e.absent() {
			e.stream(ctx, wake)
		}
		wait(ctx, reconnectAfter)
	}
}

// stream follows one connection to its end. What happened before it began is not told, so its beginning is a reason to look, and so is its
// end: live-restore lets an engine come back without a word about its containers.
func (e *engine) stream(ctx context.Context, wake func(rules bool)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The engine may have been upgraded while it was away, and a client negotiates its version once.
	api, err := e.connect()
	if err != nil {
		return
	}
	version, ok := e.answers(ctx, api)
	if !ok {
		api.Close()
		return
	}
	e.use(api)
	// The engine answers before it listens to itself: what happens in between is told because of the beginning of this second.
	since := strconv.FormatInt(time.Now().Unix(), 10)
	res := api.Events(ctx, client.EventsListOptions{Since: since, Filters: eventFilters()})
	e.events.Store(true)
	defer e.events.Store(false)
	e.log.Info("following docker's events", "api", version)
	wake(true)
	late := time.NewTimer(settle)
	defer late.Stop()
	for {
		select {
		case m := <-res.Messages:
			wake(changesRules(m))
			late.Reset(settle)
		case <-late.C:
			wake(false)
		case <-ctx.Done():
			return
		case err := <-res.Err:
			e.log.Info("docker's events have ended", "error", err)
			wake(true)
			return
		}
	}
}

// changesRules tells whether an event comes with netfilter rules that name other bridges than before. Those for a container's ports come
// with every start, and name none.
func changesRules(m events.Message) bool {
	switch m.Action {
	case events.ActionCreate, events.ActionDestroy, events.ActionRemove:
		return m.Type == events.NetworkEventType
	}
	return m.Type == events.DaemonEventType
}

// answers tells whether the engine is there, and which version of its API it and the client have in common.
func (e *engine) answers(ctx context.Context, api docker) (version string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	_, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	return api.ClientVersion(), err == nil
}

func eventFilters() client.Filters {
	return client.Filters{}.
		Add("type", string(events.ContainerEventType), string(events.NetworkEventType), string(events.DaemonEventType)).
		Add("event", "start", "die", "destroy", "rename", "pause", "unpause", "update",
			"connect", "disconnect", "create", "remove", "reload")
}
