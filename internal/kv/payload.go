package kv

import "encoding/binary"

// payloadHead is room in front of the operations for the largest uvarint of their number.
const payloadHead = binary.MaxVarintLen32

// payload builds an effects payload. Slices that its methods return stay valid while the payload grows: the array
// they lie in is only ever appended to.
type payload struct {
	buf []byte
	n   uint32
}

func (p *payload) reset(buf []byte) {
	p.buf = append(buf[:0], make([]byte, payloadHead)...)
	p.n = 0
}

func (p *payload) op(kind byte, keyLen int) {
	p.n++
	p.buf = append(p.buf, kind)
	p.buf = binary.AppendUvarint(p.buf, uint64(keyLen))
}

// setKey writes a meta row and returns the copies of key and value that lie in the payload.
func (p *payload) setKey(key, value []byte, expireAt int64) (k, v []byte) {
	p.op(kindSet, 1+len(key))
	p.buf = appendKeyRow(p.buf, key)
	end := len(p.buf)
	k = p.buf[end-len(key) : end : end]
	p.buf = binary.AppendUvarint(p.buf, uint64(metaLen(value, expireAt)))
	p.buf = appendMeta(p.buf, TypeString, value, expireAt)
	end = len(p.buf)
	return k, p.buf[end-len(value) : end : end]
}

// deleteKey removes a meta row and returns the copy of key that lies in the payload.
func (p *payload) deleteKey(key []byte) []byte {
	p.op(kindDelete, 1+len(key))
	p.buf = appendKeyRow(p.buf, key)
	end := len(p.buf)
	return p.buf[end-len(key) : end : end]
}

func (p *payload) setExpiry(expireAt int64, key []byte) {
	p.op(kindSet, expiryHead+len(key))
	p.buf = appendExpiryRow(p.buf, expireAt, key)
	p.buf = append(p.buf, 0)
}

func (p *payload) deleteExpiry(expireAt int64, key []byte) {
	p.op(kindDelete, expiryHead+len(key))
	p.buf = appendExpiryRow(p.buf, expireAt, key)
}

func (p *payload) clear() {
	p.op(kindRangeDelete, len(clearFrom))
	p.buf = append(p.buf, clearFrom...)
	p.buf = append(p.buf, byte(len(clearTo)))
	p.buf = append(p.buf, clearTo...)
}

// finish returns the whole payload, with the number of keys if it changed; nil if there is nothing in it.
func (p *payload) finish(count int64, changed bool) []byte {
	if p.n == 0 {
		return nil
	}
	b, n := p.buf, p.n
	if changed {
		n++
		b = append(b, kindSet, byte(len(countRow)))
		b = append(b, countRow...)
		b = append(b, countLen)
		b = binary.BigEndian.AppendUint64(b, uint64(count))
	}
	start := payloadHead - uvarintLen(uint64(n))
	binary.PutUvarint(b[start:], uint64(n))
	p.buf = b[:len(p.buf)] // keeps a grown array
	return b[start:]
}
