package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

// stagedFrames is the file in which frames wait until all of them are known to be right.
const stagedFrames = "repair" + tmpSuffix

// Fill fills a hole that FindHole found, while nobody has the log open, with the frames that r delivers one after the other (a peer's). Before anything
// of the log is changed they are all checked against the chain of hashes, from h.From to h.To, and what stood in the hole is copied to a file below saveDir.
// The frames then go where they were, synced. A crash on the way leaves a hole, maybe a smaller one, at whose both ends nothing changed; it is found
// and filled again. Errors: ErrDiverged if r is of another history or ends early, ErrRoom, ErrTooLarge, I/O errors.
func Fill(o Options, h Hole, r io.Reader, saveDir string) error {
	o.EnsureDefaults()
	dir, err := openDirectory(o.FS, o.Dir)
	if err != nil {
		return err
	}
	defer dir.close()
	staged, err := stage(dir, h, r, o.MaxFrameBytes)
	if err == nil {
		err = staged.layOut(h)
	}
	if err != nil {
		return errors.Join(err, staged.drop(dir))
	}
	if err := saveHole(o.FS, h, saveDir); err != nil {
		return fmt.Errorf("save what is damaged: %w", err)
	}
	if h.Open {
		// Before the log looks whole again: what may have stood behind is in doubt from then on, over restarts.
		if err := dir.writeNote(noteDoubt, Cut{File: h.File, Offset: h.off, After: h.To, Found: h.Found}); err != nil {
			return err
		}
	}
	f, err := openHole(dir, o, h)
	if err != nil {
		return err
	}
	if err = errors.Join(staged.fill(dir, f, h), f.Close()); err != nil {
		return fmt.Errorf("repair %s: %w", h.File, err)
	}
	o.Logger.Warn("log repaired", "file", h.File, "offset", h.off, "from", uint64(h.From.LSN)+1, "to", uint64(h.To.LSN), "frames", len(staged.sizes), "found", h.Found)
	return staged.drop(dir)
}

// openHole opens the file that has the hole, making it if it is missing.
func openHole(d *directory, o Options, h Hole) (vfs.File, error) {
	if _, err := d.fs.Stat(h.File); h.build && errors.Is(err, os.ErrNotExist) {
		if _, err := makeSegment(d, o, h.Seq, h.From); err != nil {
			return nil, err
		}
	}
	f, err := d.fs.OpenReadWrite(h.File, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", h.File, err)
	}
	return f, nil
}

// staged are the frames of a hole, checked, in a file of their own.
type staged struct {
	sizes []int64
	first []LSN
	total int64
	joins []int64 // bytes of the join mark before each frame, and of the one before what follows
}

// stage takes all frames of the hole.
func stage(d *directory, h Hole, r io.Reader, limit uint32) (s staged, err error) {
	if h.Empty() {
		if h.From.Hash != h.To.Hash {
			return s, fmt.Errorf("%w: %v does not lead to %v", ErrDiverged, h.From, h.To)
		}
		return s, nil
	}
	out, err := d.fs.Create(d.join(stagedFrames), vfs.WriteCategoryUnspecified)
	if err != nil {
		return s, fmt.Errorf("create %s: %w", d.join(stagedFrames), err)
	}
	pos := h.From
	for err == nil && pos.LSN < h.To.LSN {
		pos, err = s.take(out, h, r, pos, limit)
	}
	if err == nil && (pos.Hash != h.To.Hash || h.To.Epoch != 0 && pos.Epoch != h.To.Epoch) {
		err = fmt.Errorf("%w: the frames lead to %v, not to %v", ErrDiverged, pos, h.To)
	}
	return s, errors.Join(err, out.Close())
}

// take reads one frame and checks that it continues the chain.
func (s *staged) take(out io.Writer, h Hole, r io.Reader, pos Position, limit uint32) (Position, error) {
	f, err := ReadFrame(r, limit)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return pos, fmt.Errorf("%w: the frames end at %v, before %v", ErrDiverged, pos, h.To)
	}
	if err != nil {
		return pos, err
	}
	if f.First != pos.LSN+1 || f.Prev != pos.Hash || f.Epoch < pos.Epoch || f.Last() > h.To.LSN {
		return pos, fmt.Errorf("%w: a frame of LSN %d to %d in epoch %d behind %v", ErrDiverged, f.First, f.Last(), f.Epoch, pos)
	}
	s.sizes, s.first, s.total = append(s.sizes, f.Size()), append(s.first, f.First), s.total+f.Size()
	if h.cont > 0 && s.total > h.cont-h.off {
		return pos, fmt.Errorf("%w: %d bytes for %d", ErrRoom, s.total, h.cont-h.off)
	}
	_, err = out.Write(f.Bytes)
	return f.End(), err
}

// drop removes the file.
func (s staged) drop(d *directory) error {
	if err := d.fs.Remove(d.join(stagedFrames)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// layOut parts the room that is left over between the frames: it is what join marks took. What follows the frames stays where it is (cont), so that
// every offset that anybody knows stays right.
func (s *staged) layOut(h Hole) error {
	s.joins = make([]int64, len(s.sizes)+1)
	slots := len(s.joins)
	if h.cont == 0 {
		return nil
	}
	if h.cont == h.end {
		slots-- // no frame follows the last one in this file
	}
	if !spread(h.cont-h.off-s.total, s.joins[:slots]) {
		return fmt.Errorf("%w: %d frames of %d bytes for %d", ErrRoom, len(s.sizes), s.total, h.cont-h.off)
	}
	return nil
}

// fill writes the frames into their place and syncs. The header goes last: it says that all before it is there.
func (s staged) fill(d *directory, f vfs.File, h Hole) error {
	end, err := s.copyFrames(d, f, h)
	if err != nil {
		return err
	}
	if last := s.joins[len(s.joins)-1]; last > 0 {
		if err := writeAt(f, joinMark{size: last, begin: h.To.LSN, next: h.To.LSN + 1}.append(nil), end); err != nil {
			return err
		}
	}
	if h.cont == 0 {
		size, err := fileSize(f)
		if err != nil {
			return err
		}
		if err := zeroRange(f, end, max(size, end+HeaderSize)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if !h.build {
		return nil
	}
	if h.made.Created.IsZero() {
		h.made.Created = time.Now()
	}
	if err := writeAt(f, h.made.encode(), 0); err != nil {
		return err
	}
	return f.Sync()
}

// copyFrames copies the staged frames, each behind its join mark, and returns where they end.
func (s staged) copyFrames(d *directory, f vfs.File, h Hole) (end int64, err error) {
	end = h.off
	if len(s.sizes) == 0 {
		return end, nil
	}
	in, err := d.fs.Open(d.join(stagedFrames))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	for i, size := range s.sizes {
		if s.joins[i] > 0 {
			if err := writeAt(f, joinMark{size: s.joins[i], begin: s.first[i] - 1, next: s.first[i]}.append(nil), end); err != nil {
				return 0, err
			}
			end += s.joins[i]
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(in, b); err != nil {
			return 0, err
		}
		if err := writeAt(f, b, end); err != nil {
			return 0, err
		}
		end += size
	}
	return end, nil
}

// spread parts room among join marks, none or one for each slot. A mark has 64 bytes, or 128 to 639.
func spread(room int64, slots []int64) bool {
	const most = 2*HeaderSize + sector - 1
	for i := range slots {
		switch {
		case room == HeaderSize || room >= 2*HeaderSize && room <= most || room == 0:
			slots[i] = room
		case room > most+2*HeaderSize:
			slots[i] = most
		case room > most:
			slots[i] = room - 2*HeaderSize
		default:
			return false
		}
		room -= slots[i]
	}
	return room == 0
}

// saveHole copies what stands in the hole, up to where sound frames go on, or all the rest of the file. What an earlier attempt saved is kept: it is the original.
func saveHole(fs vfs.FS, h Hole, saveDir string) error {
	in, err := fs.Open(h.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	from, to := h.off, h.cont
	if h.build {
		from = 0
	}
	if to == 0 {
		if to, err = fileSize(in); err != nil {
			return err
		}
	}
	dir := fs.PathJoin(saveDir, fmt.Sprintf("%s%d-%v", damagedPrefix, h.From.LSN, h.From.Hash))
	if err := durable.MakeDir(fs, dir); err != nil {
		return err
	}
	path := fs.PathJoin(dir, fmt.Sprintf("%s-%d", segmentName(h.Seq), from))
	if _, err := fs.Stat(path); err == nil {
		return nil
	}
	if err := copyRange(fs, in, from, to, path+tmpSuffix); err != nil {
		return err
	}
	if err := fs.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	return durable.SyncDir(fs, dir)
}

func copyRange(fs vfs.FS, in io.ReaderAt, from, to int64, path string) error {
	out, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, io.NewSectionReader(in, from, max(0, to-from))); err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
