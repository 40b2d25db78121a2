package agent

import "time"

// unloadTimeout is how long an agent that ends waits for what it is loading.
const unloadTimeout = 500 * time.Millisecond

// prepared is a datapath that is being loaded before anybody asks for it. nil: none is.
type prepared chan loaded

type loaded struct {
	dp  Datapath
	err error
}

// prepare begins to load the programs, where this host is to be one of several and nothing is attached yet. A host that moves over from another
// overlay is cut off from that one's end until this one begins, and to load them is what takes longest.
func (a *Agent) prepare() {
	if !a.o.Overlay.wanted() || wantsDatapath(a.state.Intent) {
		return
	}
	a.prepared = make(prepared, 1)
	go func(done prepared) {
		dp, err := a.host.LoadDatapath()
		if err == nil {
			a.log.Info("datapath is loaded, and waits to be attached")
		}
		done <- loaded{dp, err}
	}(a.prepared)
}

// loadDatapath loads the programs, or takes those that were prepared. What went wrong then may be mended by now.
func (a *Agent) loadDatapath() (Datapath, error) {
	if dp := a.takePrepared(); dp != nil {
		return dp, nil
	}
	return a.host.LoadDatapath()
}

// takePrepared waits for what is being prepared. nil: nothing is, or it failed.
func (a *Agent) takePrepared() Datapath {
	if a.prepared == nil {
		return nil
	}
	l := <-a.prepared
	a.prepared = nil
	if l.err != nil {
		a.log.Warn("load the programs beforehand", "error", l.err)
		return nil
	}
	return l.dp
}

// leaveUnused takes away what was prepared for an attach that did not come before the agent ended. Who ends the agent does not wait until all is
// loaded: what is pinned of it is there from the beginning, and the rest goes with the process.
func (a *Agent) leaveUnused() {
	if a.prepared == nil {
		return
	}
	select {
	case l := <-a.prepared:
		if l.err != nil {
			return
		}
		l.dp.Close()
	case <-time.After(unloadTimeout):
	}
	a.prepared = nil
	if err := a.host.RemoveDatapath(); err != nil {
		a.log.Error("remove what was prepared", "error", err)
	}
}

// dropPrepared gives up what was prepared and not taken. Its maps are pinned, and stay.
func (a *Agent) dropPrepared() {
	if dp := a.takePrepared(); dp != nil {
		dp.Close()
	}
}
