package agent

import (
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells a service manager, where one asked for it, how the agent does.
type notifier struct {
	log   *slog.Logger
	ready bool
}

func (n *notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Debug("notify service manager", "error", err)
	}
}

// status says in a few words what the agent does now; the first call also that it is ready.
func (n *notifier) status(text string, ready bool) {
	state := "STATUS=" + text
	if ready && !n.ready {
		n.ready = true
		state = daemon.SdNotifyReady + "\n" + state
	}
	n.send(state)
}

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping) }

func (n *notifier) alive() { n.send(daemon.SdNotifyWatchdog) }

// watchdogInterval is how often alive must be called: half of what the service manager allows. 0: never.
func (n *notifier) watchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("read watchdog interval", "error", err)
		return 0
	}
	return d / 2
}
