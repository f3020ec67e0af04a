package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Objects up to oneUpload are streamed as one request; larger ones in parts, of which each is kept in memory.
const (
	oneUpload = 1 << 30
	partBytes = 16 << 20
)

// s3 keeps objects in a bucket.
type s3 struct {
	client *minio.Client
	bucket string
	prefix string // "" or with a slash at its end
}

func newS3(u *url.URL) (*s3, error) {
	q := u.Query()
	endpoint := q.Get("endpoint")
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	insecure := false
	if text := q.Get("insecure"); text != "" {
		var err error
		if insecure, err = strconv.ParseBool(text); err != nil {
			return nil, fmt.Errorf("archive url: insecure=%q: want true or false", text)
		}
	}
	for name := range q {
		if name != "endpoint" && name != "region" && name != "insecure" {
			return nil, fmt.Errorf("archive url: unknown parameter %q", name)
		}
	}
	if u.Host == "" {
		return nil, errors.New("archive url: no bucket: want s3://bucket/prefix")
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{}}})
	c, err := minio.New(endpoint, &minio.Options{Creds: creds, Secure: !insecure, Region: q.Get("region")})
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &s3{client: c, bucket: u.Host, prefix: prefix}, nil
}

func (s *s3) fault(key string, err error) error {
	if err == nil {
		return nil
	}
	if r := minio.ToErrorResponse(err); r.Code == minio.NoSuchKey || (r.StatusCode == http.StatusNotFound && r.Code != minio.NoSuchBucket) {
		err = ErrNotFound
	}
	return fmt.Errorf("s3://%s/%s%s: %w", s.bucket, s.prefix, key, err)
}

// Put implements Store.
func (s *s3) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	o := minio.PutObjectOptions{PartSize: partBytes, ContentType: "application/octet-stream", DisableMultipart: size <= oneUpload}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, r, size, o)
	return s.fault(key, err)
}

// Get implements Store.
func (s *s3) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.fault(key, err)
	}
	if _, err := o.Stat(); err != nil { // GetObject asks nothing by itself
		return nil, errors.Join(s.fault(key, err), o.Close())
	}
	return o, nil
}

// Stat implements Store.
func (s *s3) Stat(ctx context.Context, key string) (Info, error) {
	o, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.fault(key, err)
	}
	return Info{Key: key, Size: o.Size, Modified: o.LastModified}, nil
}

// List implements Store.
func (s *s3) List(ctx context.Context, prefix string, fn func(Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return s.fault(prefix, o.Err)
		}
		if err := fn(Info{Key: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements Store.
func (s *s3) Delete(ctx context.Context, key string) error {
	return s.fault(key, s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}))
}
