package page

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

func get(h http.Handler, method, host, path string) *http.Response {
	r := httptest.NewRequest(method, "http://"+host+path, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func quiet() (api.Activity, error) { return api.Activity{Instance: "x"}, nil }

// Nobody but the host itself is answered: a name that leads here by somebody else's DNS is refused, for the page and for the counters.
func TestHost(t *testing.T) {
	h := Handler(quiet, []string{"Box.example.net"})
	for host, want := range map[string]int{
		"127.0.0.1:9979": 200, "[::1]:9979": 200, "192.0.2.7": 200, "localhost:9979": 200, "LOCALHOST": 200, "a.localhost:1": 200,
		"box.example.net": 200, "box.example.net.:9979": 200,
		"evil.example": 403, "evil.example:9979": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "box": 403, "": 403,
	} {
		for _, path := range []string{"/", "/activity.json"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("host %q, %s: %d, want %d", host, path, w.Code, want)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	h := Handler(quiet, nil)
	for _, tt := range []struct {
		method, path string
		code         int
		kind         string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/page.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/graph.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/page.css", 200, "text/css; charset=utf-8"},
		{"GET", "/activity.json", 200, "application/json"},
		{"POST", "/", 405, ""},
		{"POST", "/activity.json", 405, ""},
		{"DELETE", "/activity.json", 405, ""},
		{"GET", "/assets/page.html", 404, ""},
		{"GET", "/../page.html", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"GET", "/v1/status", 404, ""},
	} {
		r := get(h, tt.method, "127.0.0.1", tt.path)
		if r.StatusCode != tt.code && !(tt.code == 404 && r.StatusCode/100 == 3) {
			t.Errorf("%s %s: %s, want %d", tt.method, tt.path, r.Status, tt.code)
		}
		if got := r.Header.Get("Content-Type"); tt.kind != "" && got != tt.kind {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.kind)
		}
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers %v", tt.method, tt.path, r.Header)
		}
	}
}

func TestActivity(t *testing.T) {
	var got api.Activity
	text := body(t, get(Handler(quiet, nil), "GET", "127.0.0.1", "/activity.json"))
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Instance != "x" {
		t.Errorf("%v: %s", err, text)
	}
	broken := func() (api.Activity, error) { return api.Activity{}, errors.New("read map: no") }
	r := get(Handler(broken, nil), "GET", "127.0.0.1", "/activity.json")
	if text := body(t, r); r.StatusCode != 500 || !strings.Contains(text, "read map: no") {
		t.Errorf("%s: %s", r.Status, text)
	}
}

// The page takes nothing from elsewhere, has no script or style within, and its script makes no markup of text.
func TestAssets(t *testing.T) {
	h := Handler(quiet, nil)
	for path, never := range map[string]*regexp.Regexp{
		"/":         regexp.MustCompile(`https?://|<style|<script>|\son[a-z]+=|style=`),
		"/page.css": regexp.MustCompile(`https?://|@import`),
		"/page.js":  regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https?://`),
		"/graph.js": regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https://`),
	} {
		text := body(t, get(h, "GET", "127.0.0.1", path))
		if found := never.FindString(text); found != "" || len(text) < 500 {
			t.Errorf("%s: %d bytes, has %q", path, len(text), found)
		}
	}
}
