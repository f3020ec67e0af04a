package replicate

import (
	"context"
	"math/rand/v2"
	"testing"

	"repld/wal"
)

// BenchmarkStream measures catch-up over loopback TCP: frames of about 64 KiB from one log to another.
func BenchmarkStream(b *testing.B) {
	_, a, s := pair(b, nil)
	a.activate(1, set(1, 0))
	noise := rand.NewChaCha8([32]byte{1})
	payload := make([]byte, 1000) // does not shrink
	for range b.N {
		for range 64 {
			_, _ = noise.Read(payload)
			must(b, a.writer.Admit(context.Background()))
			_, err := a.writer.Append(wal.KindEffects, payload)
			must(b, err)
		}
	}
	must(b, a.writer.Close()) // drains
	a.writer = nil
	last := a.log.End().LSN
	bytes := a.log.Bytes()
	b.ResetTimer()
	s.keepFollowing("a", nil)
	s.waitDurable(last)
	b.StopTimer()
	sec := b.Elapsed().Seconds()
	b.ReportMetric(float64(bytes)/1e6/sec, "MB/s")
	b.ReportMetric(float64(last)/sec, "records/s")
	b.ReportMetric(float64(a.log.Stats().Frames)/sec, "frames/s")
}

// BenchmarkRoundTrip measures one record at a time: append, send, fsync there, ack, commit here (memory file systems).
func BenchmarkRoundTrip(b *testing.B) {
	_, a, s := pair(b, nil)
	committed := make(chan struct{}, 1)
	a.activate(1, set(1, 1, "b"))
	ack := a.sender.o.OnAck
	a.sender.o.OnAck = func(standby string, x Ack) {
		ack(standby, x)
		signal(committed)
	}
	s.keepFollowing("a", nil)
	s.waitDurable(a.write(1))
	b.ResetTimer()
	for range b.N {
		lsn := a.write(1)
		for a.commit() < lsn {
			<-committed
		}
	}
}
