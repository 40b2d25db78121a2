package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

//go:embed assets
var assets embed.FS

// Handler serves the page at / and the counters at /activity.json. hosts are names that the page may be asked for under, beside addresses
// and localhost.
func Handler(activity func() (api.Activity, error), hosts []string) http.Handler {
	mux := http.NewServeMux()
	for path, file := range map[string]struct{ name, kind string }{
		"/{$}":      {"page.html", "text/html; charset=utf-8"},
		"/page.js":  {"page.js", "text/javascript; charset=utf-8"},
		"/graph.js": {"graph.js", "text/javascript; charset=utf-8"},
		"/page.css": {"page.css", "text/css; charset=utf-8"},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { serveFile(w, r, file.name, file.kind) })
	}
	mux.HandleFunc("GET /activity.json", func(w http.ResponseWriter, _ *http.Request) { serveActivity(w, activity) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		if !allowed(r, hosts) {
			http.Error(w, "this page is served under the host's addresses, its name and localhost; the agent's --page-host adds a name", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func serveFile(w http.ResponseWriter, r *http.Request, name, kind string) {
	content, err := fs.ReadFile(assets, "assets/"+name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

func serveActivity(w http.ResponseWriter, activity func() (api.Activity, error)) {
	a, err := activity()
	if err != nil {
		http.Error(w, strings.ReplaceAll(err.Error(), "\n", "; "), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The asker may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(a)
}
