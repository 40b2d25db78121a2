package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

const (
	logFormatEnv = "EBPFNET_LOG_FORMAT"
	logLevelEnv  = "EBPFNET_LOG_LEVEL"
)

// logging is how the agent's log is written. The environment's words are for an agent that attach starts as well.
type logging struct{ format, level string }

func (l *logging) flags(f *pflag.FlagSet) {
	f.StringVar(&l.format, "log-format", envOr(logFormatEnv, "text"), "text or json (env "+logFormatEnv+")")
	f.StringVar(&l.level, "log-level", envOr(logLevelEnv, "info"), "debug, info, warn or error; -v is debug (env "+logLevelEnv+")")
}

// logger writes to out, one line for each thing that happens.
func (l *logging) logger(out io.Writer, verbose bool) (*slog.Logger, error) {
	var o slog.HandlerOptions
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(l.level)]
	if !ok {
		return nil, usageError{fmt.Errorf("--log-level %s: it is debug, info, warn or error", l.level)}
	}
	if o.Level = level; verbose {
		o.Level = slog.LevelDebug
	}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(out, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, &o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %s: it is text or json", l.format)}
}
