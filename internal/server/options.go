package server

import (
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"repld/internal/resp"
)

// Secret is a password that logs and dumps print as ***.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret.
func (Secret) GoString() string { return "***" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText hides the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Options configure a Server. The zero value of each field means its default.
type Options struct {
	// Backend is the group that is served. Required.
	Backend Backend
	// Password must be given by AUTH or HELLO before anything else on listeners that ask for it; "" asks nobody.
	Password Secret
	// ACL are further users, each with what it may do. On listeners that ask for a password, one of them, or "default" with Password, has to be given. nil: there are none.
	ACL *ACL
	// SocketMode is the mode of unix sockets. Default 0660.
	SocketMode fs.FileMode
	// MaxClients is how many connections there may be at once. Default 10000.
	MaxClients int
	// IdleTimeout closes a connection that sends nothing for so long. Default 0: never.
	IdleTimeout time.Duration
	// PartialTimeout closes a connection whose request, once begun, is not complete after so long plus the time that its
	// bytes take at MinBytesPerSecond. Default 30 s.
	PartialTimeout time.Duration
	// MinBytesPerSecond is the slowest honest sender of a big request. Default 64 KiB/s.
	MinBytesPerSecond int
	// WriteTimeout closes a connection that takes none of its replies for so long. Default 60 s.
	WriteTimeout time.Duration
	// MaxOutputBytes closes a connection whose unsent replies grow over it. Default 64 MiB more than Limits.MaxBulk.
	MaxOutputBytes int
	// MaxBatch is how many pipelined commands are evaluated as one batch. Default 1024.
	MaxBatch int
	// MaxTransactionBytes bounds what MULTI queues, arguments counted. Default 64 MiB more than Limits.MaxBulk.
	MaxTransactionBytes int
	// Forward reaches the active: then sessions on unix sockets have it execute their commands while this node is a standby. nil: they are refused.
	Forward Forwarder
	// ForwardWait is how long a forwarded command waits for an active. Default 10 s.
	ForwardWait time.Duration
	// Limits bound requests.
	Limits resp.Limits
	// RedisVersion is what HELLO and INFO call redis_version; clients choose features by it. Default "7.0.15".
	RedisVersion string
	// SlowlogThreshold is the least duration that SLOWLOG keeps; negative: none. Default 10 ms.
	SlowlogThreshold time.Duration
	// SlowlogEntries is how many entries SLOWLOG keeps. Default 128.
	SlowlogEntries int
	// OnShutdown is called, on its own goroutine, for the command SHUTDOWN. nil refuses the command.
	OnShutdown func()
	// OnReply is called with the time from the Backend's answer to a batch to its replies being given to the kernel. It must not block. May be nil.
	OnReply func(time.Duration)
	// OnPanic is called after a panic closed one session; for tests and metrics. May be nil.
	OnPanic func(value any)
	// Logger. Default: discards.
	Logger *slog.Logger
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	o.Limits.EnsureDefaults()
	if o.SocketMode == 0 {
		o.SocketMode = 0o660
	}
	def(&o.MaxClients, 10000)
	if o.PartialTimeout == 0 {
		o.PartialTimeout = 30 * time.Second
	}
	def(&o.MinBytesPerSecond, 64<<10)
	if o.WriteTimeout == 0 {
		o.WriteTimeout = time.Minute
	}
	if o.ForwardWait == 0 {
		o.ForwardWait = 10 * time.Second
	}
	def(&o.MaxOutputBytes, o.Limits.MaxBulk+64<<20)
	def(&o.MaxBatch, 1024)
	def(&o.MaxTransactionBytes, o.Limits.MaxBulk+64<<20)
	if o.RedisVersion == "" {
		o.RedisVersion = "7.0.15"
	}
	if o.SlowlogThreshold == 0 {
		o.SlowlogThreshold = 10 * time.Millisecond
	}
	def(&o.SlowlogEntries, 128)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first field that cannot be worked with.
func (o *Options) Validate() error {
	if o.Backend == nil {
		return fmt.Errorf("server options: no backend")
	}
	if o.SocketMode&^0o777 != 0 {
		return fmt.Errorf("server options: socket mode %v has more than permission bits", o.SocketMode)
	}
	for _, f := range []struct {
		name string
		v    int64
	}{
		{"max clients", int64(o.MaxClients)},
		{"partial timeout", int64(o.PartialTimeout)},
		{"write timeout", int64(o.WriteTimeout)},
		{"min bytes per second", int64(o.MinBytesPerSecond)},
		{"max output bytes", int64(o.MaxOutputBytes)},
		{"max batch", int64(o.MaxBatch)},
		{"max transaction bytes", int64(o.MaxTransactionBytes)},
		{"slowlog entries", int64(o.SlowlogEntries)},
	} {
		if f.v <= 0 {
			return fmt.Errorf("server options: %s is %d, must be positive", f.name, f.v)
		}
	}
	if o.IdleTimeout < 0 {
		return fmt.Errorf("server options: idle timeout is %s, must not be negative", o.IdleTimeout)
	}
	return o.Limits.Validate()
}
