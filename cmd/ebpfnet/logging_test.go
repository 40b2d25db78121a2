package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestLogger(t *testing.T) {
	for _, tt := range []struct {
		name, format, level string
		verbose             bool
		want                string // the levels that are written
		usage               bool
	}{
		{name: "as it is", format: "text", level: "info", want: "INFO WARN ERROR"},
		{name: "less", format: "text", level: "error", want: "ERROR"},
		{name: "more", format: "text", level: "debug", want: "DEBUG INFO WARN ERROR"},
		{name: "verbose", format: "text", level: "error", verbose: true, want: "DEBUG INFO WARN ERROR"},
		{name: "JSON", format: "json", level: "WARN", want: "WARN ERROR"},
		{name: "no level", format: "text", level: "loud", usage: true},
		{name: "no format", format: "xml", level: "info", usage: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			l := logging{tt.format, tt.level}
			log, err := l.logger(&out, tt.verbose)
			if tt.usage {
				if !isUsage(err) {
					t.Fatalf("error %v, want one about usage", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("x", "k", "two words")
			log.Info("x", "k", "two words")
			log.Warn("x", "k", "two words")
			log.Error("x", "k", "two words")
			var got []string
			for line := range strings.Lines(out.String()) {
				if tt.format == "json" {
					var row struct{ Level, K string }
					if err := json.Unmarshal([]byte(line), &row); err != nil || row.K != "two words" {
						t.Errorf("%v: %s", err, line)
					}
					got = append(got, row.Level)
					continue
				}
				if !strings.Contains(line, `k="two words"`) {
					t.Errorf("no key and value: %s", line)
				}
				_, rest, _ := strings.Cut(line, "level=")
				level, _, _ := strings.Cut(rest, " ")
				got = append(got, level)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
}
