package protocol

import (
	"encoding/base64"

	"github.com/klauspost/compress/s2"

	"github.com/kiteq/kiteq/internal/kite"
)

// MaxPlain is the longest body that is compressed or decompressed, bytes.
const MaxPlain = 16 << 20

// maxRatio bounds how much longer than its block a body can be: snappy's best element makes 64 bytes of
// 3. A block that declares more is damaged, and is refused before its length is allocated.
const maxRatio = 22

// Compress returns the body as one snappy block, in standard base64 when it is text: strings must be
// UTF-8 on the wire. The result is a new slice. A body over MaxPlain is an error of code kite.TooLarge.
func Compress(body []byte, text bool) ([]byte, error) {
	if len(body) > MaxPlain {
		return nil, kite.Errorf(kite.TooLarge, "body of %d bytes to compress: at most %d are allowed", len(body), MaxPlain)
	}
	block := s2.EncodeSnappy(nil, body)
	if !text {
		return block, nil
	}
	return base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(block))), block), nil
}

// Decompress reverses Compress, into a new slice. The error, of code kite.Invalid or kite.TooLarge, names
// what is wrong with the body.
func Decompress(body []byte, text bool) ([]byte, error) {
	block := body
	if text {
		decoded, err := base64.StdEncoding.AppendDecode(nil, body)
		if err != nil {
			return nil, kite.Errorf(kite.Invalid, "the compressed text of %d bytes is no base64: %w", len(body), err)
		}
		block = decoded
	}
	size, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return nil, kite.Errorf(kite.Invalid, "the compressed body of %d bytes is no snappy block: %w", len(body), err)
	case size > MaxPlain:
		return nil, kite.Errorf(kite.TooLarge, "the compressed body declares %d bytes: at most %d are allowed", size, MaxPlain)
	case size > maxRatio*len(block):
		return nil, kite.Errorf(kite.Invalid, "the compressed body declares %d bytes, more than a snappy block of %d can hold", size, len(block))
	}
	plain, err := s2.Decode(nil, block)
	if err != nil {
		return nil, kite.Errorf(kite.Invalid, "the compressed body of %d bytes is no snappy block: %w", len(body), err)
	}
	return plain, nil
}

// AppendPlain appends the payload of a compressed message with its plain body and without the snappy
// field, for clients that do not know it. Everything else is kept. m is what Decode made of payload. The
// error is that of Decompress.
func AppendPlain(dst []byte, cmd Command, payload []byte, m *MessageView) ([]byte, error) {
	body, err := Decompress(m.Body, cmd == CmdStringMessage)
	if err != nil {
		return dst, err
	}
	header := withoutSnappy(m.Header.Raw)
	copied, headed, bodied := 0, false, false
	s := scanner{buf: payload}
	for s.next(&messageLayout) {
		dst = append(dst, payload[copied:s.tagStart]...)
		copied = s.pos
		switch {
		case s.num == 1 && !headed:
			dst = appendBytes(dst, 1, header)
			headed = true
		case s.num == 2 && !bodied:
			dst = appendBytes(dst, 2, body)
			bodied = true
		}
	}
	return append(dst, payload[copied:]...), nil
}

// withoutSnappy returns an encoded Header less field 11.
func withoutSnappy(raw []byte) []byte {
	header := make([]byte, 0, len(raw))
	copied := 0
	s := scanner{buf: raw}
	for s.next(&headerLayout) {
		if s.num == 11 {
			header = append(header, raw[copied:s.tagStart]...)
			copied = s.pos
		}
	}
	return append(header, raw[copied:]...)
}
