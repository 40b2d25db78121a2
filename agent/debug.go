package agent

import (
	"net/http"
	"net/http/pprof"
)

// addProfiles serves the Go runtime's profiles, where the agent was started with --debug. They are for root alone, as all on the unix
// socket; the listener for metrics never has them.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
