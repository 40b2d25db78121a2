package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// listenSocket makes the API's socket, for the agent's own user only. It is made under another name and renamed, so that nobody finds it
// with other permissions, and what a dead agent left in its place goes. The caller holds the lock.
func listenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's folder: %w", err)
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, fmt.Errorf("make socket: %w", err)
	}
	return l, nil
}

// maxRequest is more than any request of ours takes.
const maxRequest = 16 << 20

// handler is the API. ctx ends with the agent.
func (a *Agent) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(func(*http.Request) (any, error) { return a.status(), nil }))
	mux.HandleFunc("GET /v1/endpoints", answer(func(*http.Request) (any, error) { return a.listEndpoints() }))
	mux.HandleFunc("GET /v1/endpoint", answer(func(r *http.Request) (any, error) { return a.getEndpoint(r.URL.Query().Get("name")) }))
	mux.HandleFunc("GET /v1/ports", answer(func(*http.Request) (any, error) { return a.view.Load().ports(), nil }))
	mux.HandleFunc("GET /v1/flows", a.serveFlows)
	mux.HandleFunc("POST /v1/trace", answer(func(r *http.Request) (any, error) { return a.trace(r) }))
	mux.HandleFunc("GET /v1/monitor", func(w http.ResponseWriter, r *http.Request) { a.serveMonitor(ctx, w, r) })
	mux.HandleFunc("GET /v1/activity", answer(func(*http.Request) (any, error) { return a.activity() }))
	if a.o.Debug {
		addProfiles(mux)
	}
	mux.HandleFunc("POST /v1/attach", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, a.attach)
	}))
	mux.HandleFunc("POST /v1/detach", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, func(ctx context.Context, q api.DetachRequest) (any, error) { return struct{}{}, a.detach(ctx, q) })
	}))
	mux.HandleFunc("GET /v1/peers", answer(func(*http.Request) (any, error) { return a.view.Load().peers(), nil }))
	mux.HandleFunc("POST /v1/peers/add", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, func(ctx context.Context, q api.PeerRequest) (any, error) { return struct{}{}, a.addPeer(ctx, q) })
	}))
	mux.HandleFunc("POST /v1/peers/remove", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, func(ctx context.Context, q api.PeerRequest) (any, error) { return struct{}{}, a.removePeer(ctx, q) })
	}))
	mux.HandleFunc("GET /v1/policies", answer(func(*http.Request) (any, error) { return a.listPolicies(), nil }))
	mux.HandleFunc("GET /v1/policies/test", answer(func(r *http.Request) (any, error) { return a.testPolicy(r.URL.Query()) }))
	mux.HandleFunc("POST /v1/policies/apply", answer(func(r *http.Request) (any, error) { return work(ctx, a, r, a.applyPolicies) }))
	mux.HandleFunc("POST /v1/policies/delete", answer(func(r *http.Request) (any, error) { return work(ctx, a, r, a.deletePolicy) }))
	mux.HandleFunc("POST /v1/publish", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, a.publish)
	}))
	mux.HandleFunc("POST /v1/unpublish", answer(func(r *http.Request) (any, error) {
		return work(ctx, a, r, func(ctx context.Context, q api.UnpublishRequest) (any, error) { return struct{}{}, a.unpublish(ctx, q) })
	}))
	return mux
}

// work reads a request and has the run loop do it.
func work[Q, R any](ctx context.Context, a *Agent, r *http.Request, do func(context.Context, Q) (R, error)) (any, error) {
	var q Q
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, usageError{fmt.Errorf("read request: %w", err)}
	}
	var result R
	err := a.enter(ctx, func(ctx context.Context) (err error) {
		result, err = do(ctx, q)
		return err
	})
	return result, err
}

// answer writes what f gives as JSON, its error as an api.Error of one line.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		code := http.StatusOK
		if err != nil {
			var usage usageError
			e := api.Error{Message: strings.Join(oneLine(err), "; "), Usage: errors.As(err, &usage)}
			if code = http.StatusConflict; e.Usage {
				code = http.StatusBadRequest
			}
			v = e
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		// The asker may be gone; there is nobody to tell.
		_ = json.NewEncoder(w).Encode(v)
	}
}
