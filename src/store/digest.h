/*
 * digest.h: the hashes that S3 asks for.  All return false only if OpenSSL has not got the algorithm or no memory.
 */
#ifndef S3AM_DIGEST_H
#define S3AM_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX 65 /* with the NUL */
#define MD5_BYTES 16
#define MD5_BASE64 25 /* with the NUL */

extern void digest_hex(const uint8_t *bytes, size_t len, char *hex);
extern bool digest_sha256(const void *data, size_t len, char hex[SHA256_HEX]);
extern bool digest_md5(const void *data, size_t len, uint8_t md5[MD5_BYTES]);
extern void digest_base64(const uint8_t *bytes, size_t len, char *text);
extern bool digest_hmac(const uint8_t *key, size_t key_len, const void *data, size_t len, uint8_t mac[SHA256_BYTES]);

/* Overwrites what must not stay in memory; free_secret() also frees it (NULL is fine). */
extern void digest_wipe(void *memory, size_t len);
extern void free_secret(char *secret);

#endif
