package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"repld/wal"
)

// peerSuffix serves a saved suffix to the active: its description in a header, then its frames as they lie on disk.
const (
	peerSuffix  = "/peer/v1/diverged/"
	suffixAbout = "Repld-About"
)

// suffix reads a piece of log that was set aside, here or at a peer, frame by frame.
type suffix struct {
	about wal.Diverged
	next  func() (*wal.Frame, error) // io.EOF behind the last one
	close func() error
}

// openSuffix opens what node set aside under name.
func (g *group) openSuffix(ctx context.Context, node, name string) (*suffix, error) {
	if node == "" || node == g.o.Name {
		return g.ownSuffix(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+peerSuffix+url.PathEscape(name), nil)
	if err != nil {
		return nil, err
	}
	resp, err := g.peers.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s for what it set aside: %w", node, trimURL(err))
	}
	s := &suffix{close: resp.Body.Close}
	if resp.StatusCode != http.StatusOK {
		e := &peerError{Peer: node, Status: resp.StatusCode, Message: resp.Status}
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxPeerBody)).Decode(e) // the status says enough
		return nil, errors.Join(e, s.close())
	}
	if err := json.Unmarshal([]byte(resp.Header.Get(suffixAbout)), &s.about); err != nil {
		return nil, errors.Join(fmt.Errorf("suffix %s of %s: %w", name, node, err), s.close())
	}
	pos := s.about.From
	s.next = func() (*wal.Frame, error) {
		if pos == s.about.To {
			return nil, io.EOF
		}
		f, err := wal.ReadFrame(resp.Body, wal.MaxFrameBytes)
		if err == nil && (f.First != pos.LSN+1 || f.Prev != pos.Hash) {
			err = fmt.Errorf("%w: frame of LSN %d behind %s", wal.ErrCorrupt, f.First, pos)
		}
		if err != nil {
			return nil, fmt.Errorf("suffix %s of %s behind LSN %d: %w", name, node, pos.LSN, err)
		}
		pos = f.End()
		return f, nil
	}
	return s, nil
}

// ownSuffix opens a suffix of this node by its name, which may come from anybody: only names that are there are opened.
func (g *group) ownSuffix(name string) (*suffix, error) {
	saved, listErr := wal.ListDiverged(g.o.FS, g.path("diverged"))
	for _, d := range saved {
		if g.o.FS.PathBase(d.Path) != name {
			continue
		}
		r, err := wal.OpenDiverged(g.o.FS, d.Path)
		if err != nil {
			return nil, err
		}
		return &suffix{about: d, next: r.Next, close: r.Close}, nil
	}
	return nil, errors.Join(usage("node %s has set nothing aside that is called %q: see replctl salvage list", g.o.Name, name), listErr)
}

// serveSuffix answers a peer that wants to salvage.
func (g *group) serveSuffix(w http.ResponseWriter, r *http.Request) {
	s, err := g.ownSuffix(r.PathValue("name"))
	if err != nil {
		fail(w, http.StatusNotFound, err)
		return
	}
	defer s.close()
	about, err := json.Marshal(s.about)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set(suffixAbout, string(about))
	for {
		f, err := s.next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil { // the reader finds that frames are missing
			g.logger.Error("suffix not served", "name", r.PathValue("name"), "error", err)
			return
		}
		if _, err := w.Write(f.Bytes); err != nil {
			return
		}
	}
}
