package raftstore

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newLogger gives raft's messages to l, at most at level info: what matters to a person is said by this package.
func newLogger(l *slog.Logger) hclog.Logger {
	h := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	h.RegisterSink(slogSink{l})
	return h
}

type slogSink struct{ *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug - 4
	if level >= hclog.Warn {
		to = slog.LevelDebug
	}
	s.Log(context.Background(), to, "raft: "+msg, args...)
}
