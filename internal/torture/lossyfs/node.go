package lossyfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a name: everything about names goes to the directory below at once.
type node struct {
	*fs.LoopbackNode
	f *FS
}

// handle is an open file.
type handle struct {
	f    *FS
	file *file
	path string
}

var (
	_ fs.NodeWrapChilder = (*node)(nil)
	_ fs.NodeLookuper    = (*node)(nil)
	_ fs.NodeOpener      = (*node)(nil)
	_ fs.NodeCreater     = (*node)(nil)
	_ fs.NodeGetattrer   = (*node)(nil)
	_ fs.NodeSetattrer   = (*node)(nil)
	_ fs.FileReader      = (*handle)(nil)
	_ fs.FileWriter      = (*handle)(nil)
	_ fs.FileFsyncer     = (*handle)(nil)
)

func (n *node) path() string {
	return n.RootData.Path + "/" + n.Path(n.RootData.RootNode.EmbeddedInode())
}

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), f: n.f}
}

// Lookup implements fs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	in, e := n.LoopbackNode.Lookup(ctx, name, out)
	if e == 0 && out.Mode&syscall.S_IFMT == syscall.S_IFREG {
		out.Size = n.f.size(out.Ino, out.Size)
	}
	return in, e
}

// Open implements fs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	x, err := n.f.of(n.path(), false)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	if flags&syscall.O_TRUNC != 0 {
		var st syscall.Stat_t
		if err := syscall.Ftruncate(x.fd, 0); err != nil {
			return nil, 0, fs.ToErrno(err)
		}
		if err := syscall.Fstat(x.fd, &st); err != nil {
			return nil, 0, fs.ToErrno(err)
		}
		n.f.truncated(st.Ino, 0)
	}
	return &handle{n.f, x, n.path()}, fuse.FOPEN_DIRECT_IO, 0
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	in, below, _, e := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if e != 0 {
		return nil, nil, 0, e
	}
	if r, ok := below.(fs.FileReleaser); ok {
		r.Release(ctx)
	}
	path := n.path() + "/" + name
	x, err := n.f.of(path, true)
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	return in, &handle{n.f, x, path}, fuse.FOPEN_DIRECT_IO, 0
}

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(ctx context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	e := n.LoopbackNode.Getattr(ctx, nil, out)
	if e == 0 && out.Mode&syscall.S_IFMT == syscall.S_IFREG {
		out.Size = n.f.size(out.Ino, out.Size)
	}
	return e
}

// Setattr implements fs.NodeSetattrer. A new size is durable at once.
func (n *node) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if e := n.LoopbackNode.Setattr(ctx, nil, in, out); e != 0 {
		return e
	}
	if size, ok := in.GetSize(); ok {
		n.f.truncated(out.Ino, int64(size))
	}
	if out.Mode&syscall.S_IFMT == syscall.S_IFREG {
		out.Size = n.f.size(out.Ino, out.Size)
	}
	return 0
}

// Write implements fs.FileWriter.
func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.f.write(h.file, data, off)
	return uint32(len(data)), 0
}

// Read implements fs.FileReader.
func (h *handle) Read(_ context.Context, into []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	b, err := h.f.read(h.file, into, off)
	return fuse.ReadResultData(b), fs.ToErrno(err)
}

// Fsync implements fs.FileFsyncer.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	return fs.ToErrno(h.f.sync(h.file, h.path))
}
