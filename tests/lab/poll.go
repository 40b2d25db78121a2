package lab

import (
	"testing"
	"time"
)

// Eventually calls fn until it returns nil, and fails the test with its last error after the deadline. It returns how long that took.
func Eventually(t testing.TB, within time.Duration, fn func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("not within %v: %v", within, err)
		}
		<-tick.C
	}
}

// Throughout calls fn again and again for that long, and fails the test when it returns an error.
func Throughout(t testing.TB, span time.Duration, fn func() error) {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < span {
		if err := fn(); err != nil {
			t.Fatalf("after %v: %v", time.Since(start).Round(time.Millisecond), err)
		}
		<-tick.C
	}
}

// try polls like Eventually, outside tests.
func try(within time.Duration, fn func() error) error {
	start := time.Now()
	for {
		err := fn()
		if err == nil || time.Since(start) > within {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
