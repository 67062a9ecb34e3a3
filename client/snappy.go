package client

import (
	"encoding/base64"

	"github.com/klauspost/compress/s2"

	"github.com/kiteq/kiteq/internal/kite"
)

// MaxDecompressed is the longest body that is compressed or decompressed, bytes.
const MaxDecompressed = 16 << 20

// maxRatio bounds how much longer than its block a body can be: snappy's best element makes 64 bytes of
// 3. A block that declares more is damaged, and is refused before its length is allocated.
const maxRatio = 22

// compress returns the body as one snappy block, in standard base64 when it is text: strings must be
// UTF-8 on the wire. The result is a new slice, so that the caller's message stays as it was.
func compress(body []byte, text bool) ([]byte, error) {
	if len(body) > MaxDecompressed {
		return nil, kite.Errorf(kite.TooLarge, "body of %d bytes to compress: at most %d are allowed", len(body), MaxDecompressed)
	}
	block := s2.EncodeSnappy(nil, body)
	if !text {
		return block, nil
	}
	return base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(block))), block), nil
}

// decompress reverses compress, into a new slice. The error names what is wrong with the body.
func decompress(body []byte, text bool) ([]byte, error) {
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
	case size > MaxDecompressed:
		return nil, kite.Errorf(kite.TooLarge, "the compressed body declares %d bytes: at most %d are allowed", size, MaxDecompressed)
	case size > maxRatio*len(block):
		return nil, kite.Errorf(kite.Invalid, "the compressed body declares %d bytes, more than a snappy block of %d can hold", size, len(block))
	}
	plain, err := s2.Decode(nil, block)
	if err != nil {
		return nil, kite.Errorf(kite.Invalid, "the compressed body of %d bytes is no snappy block: %w", len(body), err)
	}
	return plain, nil
}
