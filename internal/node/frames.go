package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"repld/wal"
)

// peerFrames is the call by which a node that repairs its log gets frames, byte for byte: GET ?lsn=&hash=&to=.
// They follow the frame that ends at (lsn, hash), and end with LSN to.
const peerFrames = "/peer/v1/frames"

// framesChunk is what is written at once.
const framesChunk = 256 << 10

// framesIdle is how long the source of frames, or their reader, may stand still (R12).
const framesIdle = 10 * time.Second

// serveFrames answers peerFrames from the durable log. Whoever asks checks the frames against what its own log says, so no epoch is asked for: equal
// (LSN, hash) is equal history.
func (g *group) serveFrames(w http.ResponseWriter, r *http.Request) {
	from, to, err := framesQuery(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	reader, err := g.framesAfter(from, to)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	defer reader.Close()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	for reader.Position().LSN < to && r.Context().Err() == nil {
		f, err := reader.TryNext()
		if err != nil || f == nil {
			g.logger.Warn("frames for a repair not sent", "after", reader.Position(), "error", err)
			return // the reader notices that the frames end early
		}
		for b := f.Bytes; len(b) > 0; {
			n := min(len(b), framesChunk)
			_ = out.SetWriteDeadline(time.Now().Add(framesIdle)) // the session below has a bound of its own
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
	}
}

func framesQuery(q url.Values) (from wal.Position, to wal.LSN, err error) {
	lsn, err := strconv.ParseUint(q.Get("lsn"), 10, 64)
	if err != nil {
		return from, 0, fmt.Errorf("lsn: %w", err)
	}
	hash, err := strconv.ParseUint(q.Get("hash"), 16, 64)
	if err != nil {
		return from, 0, fmt.Errorf("hash: %w", err)
	}
	end, err := strconv.ParseUint(q.Get("to"), 10, 64)
	if err != nil {
		return from, 0, fmt.Errorf("to: %w", err)
	}
	return wal.Position{LSN: wal.LSN(lsn), Hash: wal.Hash(hash)}, wal.LSN(end), nil
}

// framesAfter opens the log behind a position that it has.
func (g *group) framesAfter(from wal.Position, to wal.LSN) (*wal.Reader, error) {
	if end := g.log.Durable(); end.LSN < to {
		return nil, fmt.Errorf("the log ends at LSN %d", end.LSN)
	}
	at, err := g.log.PositionAt(from.LSN)
	if err != nil {
		return nil, err
	}
	if at.LSN != from.LSN || at.Hash != from.Hash {
		return nil, fmt.Errorf("%w: the log has %s, not hash %s at LSN %d", wal.ErrDiverged, at, from.Hash, from.LSN)
	}
	return g.log.NewReader(from.LSN)
}

// frames asks a peer for the frames between from and to. The stream ends with an error when it stands still.
func (p *peers) frames(ctx context.Context, peer string, from wal.Position, to wal.LSN) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(framesIdle, func() { cancel(errors.New("the frames do not come")) })
	query := url.Values{"lsn": {fmt.Sprint(uint64(from.LSN))}, "hash": {fmt.Sprintf("%x", uint64(from.Hash))}, "to": {fmt.Sprint(uint64(to))}}
	resp, err := p.get(ctx, peer, peerFrames+"?"+query.Encode())
	if err != nil {
		idle.Stop()
		cancel(nil)
		return nil, err
	}
	return &frameStream{ReadCloser: resp.Body, idle: idle, stop: func() { cancel(nil) }}, nil
}

// frameStream is the body of an answer; each read puts off the end.
type frameStream struct {
	io.ReadCloser
	idle *time.Timer
	stop func()
}

// Read implements io.Reader.
func (s *frameStream) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.idle.Reset(framesIdle)
	return n, err
}

// Close implements io.Closer.
func (s *frameStream) Close() error {
	s.idle.Stop()
	err := s.ReadCloser.Close()
	s.stop()
	return err
}
