// Command s3store serves S3 for tests that kill the object store: an object is there whole and durable when its PUT was answered.
//
//	s3store -listen 127.0.0.1:0 -dir store -bucket copies
//
// The server is a module's, which keeps objects in memory. Each request that changes something is written to a file of its own, synced, before it is carried out; at start they are carried out
// again. Uploads in parts are not kept.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	dir := flag.String("dir", "", "folder for the objects")
	bucket := flag.String("bucket", "copies", "bucket that there is")
	flag.Parse()
	if err := run(*listen, *dir, *bucket); err != nil {
		fmt.Fprintln(os.Stderr, "s3store:", err)
		os.Exit(1)
	}
}

func run(listen, dir, bucket string) error {
	s := &server{dir: dir, inner: gofakes3.New(s3mem.New(), gofakes3.WithTimeSkewLimit(0)).Server()}
	s.inner.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPut, "/"+bucket, nil))
	if err := s.load(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return (&http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// server keeps what the inner one is told.
type server struct {
	dir   string
	inner http.Handler
}

const part = ".part"

// path is the file of an object.
func (s *server) path(r *http.Request) string {
	return filepath.Join(s.dir, hex.EncodeToString([]byte(r.URL.Path)))
}

// load carries out again what is kept.
func (s *server) load() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if strings.HasSuffix(path, part) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.Header.Set("Content-Length", strconv.FormatInt(max(0, r.ContentLength), 10))
		w := httptest.NewRecorder()
		if s.inner.ServeHTTP(w, r); w.Code >= http.StatusMultipleChoices {
			return fmt.Errorf("%s: %s", path, w.Body)
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	switch {
	case r.Method == http.MethodPut && r.URL.RawQuery == "" || r.Method == http.MethodPut && strings.HasPrefix(r.URL.RawQuery, "x-id="):
		err = s.keep(r)
	case r.Method == http.MethodDelete:
		err = s.forget(r)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.inner.ServeHTTP(w, r)
}

// keep writes the request down and leaves it to be carried out.
func (s *server) keep(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body))) // the inner one looks here
	f, err := os.CreateTemp(s.dir, "*"+part)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path(r)); err != nil {
		return err
	}
	return s.sync()
}

func (s *server) forget(r *http.Request) error {
	if err := os.Remove(s.path(r)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.sync()
}

func (s *server) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
