// Package browser runs Debian's Chromium without a screen, for tests of what a user sees in one. Each browser has a profile of its own, asks
// nobody on the network but the page under test, and is gone when the test ends.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience is how long a page may take to show what it should.
const Patience = 30 * time.Second

// Tab is a page in a browser of its own.
type Tab struct {
	ctx context.Context

	mu       sync.Mutex
	messages []string
}

// Open starts a browser and opens a page. A machine without one fails the test where CI=true, and skips it elsewhere.
func Open(t testing.TB, url string) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing: install Debian's package chromium")
		}
		t.Skip("chromium is missing: install Debian's package chromium")
	}
	profile, err := os.MkdirTemp("", "ebl-browser-")
	if err != nil {
		t.Fatal(err)
	}
	var group int // of the browser's processes
	t.Cleanup(func() {
		if err := errors.Join(endGroup(group), os.RemoveAll(profile)); err != nil {
			t.Errorf("close the browser: %v", err)
		}
	})
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(1280, 1000),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		}),
		chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("no-proxy-server", true),
		chromedp.WSURLReadTimeout(2 * time.Minute),
	}
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, _ := chromedp.NewContext(allocator)
	tab := &Tab{ctx: ctx}
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	chromedp.ListenTarget(ctx, tab.listen)
	err = chromedp.Run(ctx, chromedp.Navigate(url))
	if b := chromedp.FromContext(ctx).Browser; b != nil {
		group = b.Process().Pid
	}
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	return tab
}

// endGroup ends what is left of a browser: some of its processes outlive the first one, and write to the profile as they end.
func endGroup(group int) error {
	if group == 0 {
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-tick.C {
		if err := syscall.Kill(-group, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return nil
		}
	}
	return fmt.Errorf("processes of group %d do not end", group)
}

// listen keeps what the page complains of: exceptions, what its script logs, and what its content security policy forbids.
func (b *Tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.messages = append(b.messages, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		var words []string
		for _, a := range e.Args {
			words = append(words, string(a.Value)+a.Description)
		}
		b.messages = append(b.messages, strings.Join(words, " "))
	}
}

// Complaints are what the page has complained of so far.
func (b *Tab) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.messages...)
}

// Run does something with the page that must succeed.
func (b *Tab) Run(t testing.TB, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// Eval gives the value of an expression in the page.
func Eval[T any](t testing.TB, b *Tab, expression string) T {
	t.Helper()
	var v T
	b.Run(t, chromedp.Evaluate(expression, &v))
	return v
}

// Await polls until an expression is true in the page.
func (b *Tab) Await(t testing.TB, what, expression string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); ; <-tick.C {
		if Eval[bool](t, b, expression) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s (%s); the page says:\n%s\nand complains: %q", what, expression,
				Eval[string](t, b, "document.body.innerText.slice(0, 3000)"), b.Complaints())
		}
	}
}

// Dark makes the page believe that its user wants dark colours, or light ones.
func (b *Tab) Dark(t testing.TB, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.Run(t, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}))
}

// Screenshot writes what the window shows as a PNG file.
func (b *Tab) Screenshot(t testing.TB, path string) {
	t.Helper()
	var png []byte
	b.Run(t, chromedp.CaptureScreenshot(&png))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		t.Fatal(fmt.Errorf("write screenshot: %w", err))
	}
}
