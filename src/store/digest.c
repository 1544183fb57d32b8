/*
 * digest.c: the hashes that S3 asks for, by OpenSSL.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "store/digest.h"

void
digest_hex(const uint8_t *bytes, size_t len, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * len] = '\0';
}

bool
digest_sha256(const void *data, size_t len, char hex[SHA256_HEX])
{
	uint8_t sum[SHA256_BYTES];

	if (EVP_Digest(data, len, sum, NULL, EVP_sha256(), NULL) != 1)
		return false;
	digest_hex(sum, sizeof(sum), hex);
	return true;
}

bool
digest_md5(const void *data, size_t len, uint8_t md5[MD5_BYTES])
{
	return EVP_Digest(data, len, md5, NULL, EVP_md5(), NULL) == 1;
}

void
digest_base64(const uint8_t *bytes, size_t len, char *text)
{
	(void) EVP_EncodeBlock((unsigned char *) text, bytes, len);
}

bool
digest_hmac(const uint8_t *key, size_t key_len, const void *data, size_t len, uint8_t mac[SHA256_BYTES])
{
	return HMAC(EVP_sha256(), key, key_len, data, len, mac, NULL) != NULL;
}

void
digest_wipe(void *memory, size_t len)
{
	OPENSSL_cleanse(memory, len);
}

void
free_secret(char *secret)
{
	if (secret)
		OPENSSL_cleanse(secret, strlen(secret));
	free(secret);
}
