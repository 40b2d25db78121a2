package echo

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
)

// longToken is the length from which a datagram is answered with its digest instead of itself, so that an answer always fits a packet.
const longToken = 256

func token(b []byte) string {
	if len(b) < longToken {
		return string(b)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// pattern is an endless stream in which every aligned 8 bytes differ from their neighbours, so that a lost, doubled or moved segment shows.
type pattern struct{ off int64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		word := uint64(p.off>>3) * 0x9e3779b97f4a7c15
		b[i] = byte(word >> (8 * uint(p.off&7)))
		p.off++
	}
	return len(b), nil
}

func bulk(n int64) io.Reader { return io.LimitReader(&pattern{}, n) }

// digest reads n bytes and returns their SHA-256.
func digest(r io.Reader, n int64) (string, error) {
	h := sha256.New()
	if _, err := io.CopyN(h, r, n); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// BulkDigest is the digest of the first n bytes of the pattern.
func BulkDigest(n int64) string {
	d, err := digest(bulk(n), n)
	if err != nil {
		panic(err) // the pattern never ends
	}
	return d
}
