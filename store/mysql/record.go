package mysql

import (
	"encoding/binary"
	"errors"

	"github.com/kiteq/kiteq/internal/kite"
)

// A record in a chunk of a checkpoint:
//
//	length (4, little endian, of what follows), kind, command, limit, id (16),
//	seq, time ms, expires ms, due ms, ref as varints, then topic, type, group, body with a varint length each
//
// The database sees to its bytes: there is no checksum.

var errRecord = errors.New("a record of the checkpoint is not as it was written")

func appendRecord(dst []byte, r *kite.Record) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(r.Kind), r.Command, r.Limit)
	dst = append(dst, r.ID[:]...)
	dst = binary.AppendUvarint(dst, uint64(r.Seq))
	dst = binary.AppendVarint(dst, r.TimeMs)
	dst = binary.AppendVarint(dst, r.ExpiresMs)
	dst = binary.AppendVarint(dst, r.DueMs)
	dst = binary.AppendUvarint(dst, uint64(r.Ref))
	dst = append(binary.AppendUvarint(dst, uint64(len(r.Topic))), r.Topic...)
	for _, b := range [...][]byte{r.Type, r.Group, r.Body} {
		dst = append(binary.AppendUvarint(dst, uint64(len(b))), b...)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// decodeRecord reads the record at the start of b into r and returns what follows it. Type, Group and Body are
// views of b.
func decodeRecord(b []byte, r *kite.Record) (rest []byte, err error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) || binary.LittleEndian.Uint32(b) < 19 {
		return nil, errRecord
	}
	end := 4 + int(binary.LittleEndian.Uint32(b))
	rest, b = b[end:], b[4:end:end]
	*r = kite.Record{Kind: kite.Kind(b[0]), Command: b[1], Limit: b[2], ID: kite.MessageID(b[3:19])}
	d := decoder{b: b[19:]}
	r.Seq = kite.Seq(d.unsigned())
	r.TimeMs, r.ExpiresMs, r.DueMs = d.signed(), d.signed(), d.signed()
	r.Ref = kite.Position(d.unsigned())
	r.Topic, r.Type, r.Group, r.Body = string(d.bytes()), d.bytes(), d.bytes(), d.bytes()
	if d.bad || len(d.b) > 0 {
		return nil, errRecord
	}
	return rest, nil
}

// decoder reads varints until one is malformed.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) unsigned() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) bytes() []byte {
	n := d.unsigned()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	piece := d.b[:n:n]
	d.b = d.b[n:]
	return piece
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}
