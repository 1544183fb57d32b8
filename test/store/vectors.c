/*
 * vectors.c: the signer against what AWS published: the examples of "Authenticating Requests (AWS Signature Version 4)" for S3, and
 * the get-vanilla and post-vanilla families of the Signature Version 4 test suite.
 */
#include <stdlib.h>

#include "store/sigv4.h"
#include "tap.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define MAX_HEADERS 6

typedef struct Vector
{
	const char *name;
	const char *method;
	const char *path;
	const char *query;
	SigHeader headers[MAX_HEADERS];
	const char *payload; /* its SHA-256 */
	const char *signature;
	const char *canonical_sha; /* of the canonical request, as in the string to sign; NULL: not published */
	const char *signed_headers;
} Vector;

/* bucket examplebucket, 24 May 2013, us-east-1, s3 */
static const Vector s3_vectors[] = {
	{"S3: GET object with a range",
	 "GET",
	 "/test.txt",
	 "",
	 {{"host", "examplebucket.s3.amazonaws.com"},
	  {"range", "bytes=0-9"},
	  {"x-amz-content-sha256", EMPTY},
	  {"x-amz-date", "20130524T000000Z"}},
	 EMPTY,
	 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
	 "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
	 "host;range;x-amz-content-sha256;x-amz-date"},
	{"S3: PUT object",
	 "PUT",
	 "/test%24file.text",
	 "",
	 {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
	  {"host", "examplebucket.s3.amazonaws.com"},
	  {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
	  {"x-amz-date", "20130524T000000Z"},
	  {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
	 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
	 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
	 "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
	 "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class"},
	{"S3: GET bucket lifecycle",
	 "GET",
	 "/",
	 "lifecycle=",
	 {{"host", "examplebucket.s3.amazonaws.com"}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", "20130524T000000Z"}},
	 EMPTY,
	 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	 "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
	 "host;x-amz-content-sha256;x-amz-date"},
	{"S3: list objects",
	 "GET",
	 "/",
	 "max-keys=2&prefix=J",
	 {{"host", "examplebucket.s3.amazonaws.com"}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", "20130524T000000Z"}},
	 EMPTY,
	 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	 "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
	 "host;x-amz-content-sha256;x-amz-date"},
};

/* 30 August 2015, us-east-1, service */
static const Vector suite_vectors[] = {
	{"suite: get-vanilla",
	 "GET",
	 "/",
	 "",
	 {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
	 "host;x-amz-date"},
	{"suite: get-vanilla-query-order-key-case",
	 "GET",
	 "/",
	 "Param1=value1&Param2=value2",
	 {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
	 "816cd5b414d056048ba4f7c5386d6e0533120fb1fcfa93762cf0fc39e2cf19e0",
	 "host;x-amz-date"},
	{"suite: get-vanilla-query-unreserved",
	 "GET",
	 "/",
	 "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz="
	 "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	 {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
	 NULL,
	 "host;x-amz-date"},
	{"suite: get-header-value-trim",
	 "GET",
	 "/",
	 "",
	 {{"host", "example.amazonaws.com"},
	  {"my-header1", " value1"},
	  {"my-header2", " \"a   b   c\""},
	  {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
	 NULL,
	 "host;my-header1;my-header2;x-amz-date"},
	{"suite: get-utf8",
	 "GET",
	 "/%E1%88%B4",
	 "",
	 {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
	 NULL,
	 "host;x-amz-date"},
	{"suite: post-vanilla",
	 "POST",
	 "/",
	 "",
	 {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
	 EMPTY,
	 "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
	 "553f88c9e4d10fc9e109e2aeb65f030801b70c2f6468faca261d401ae622fc87",
	 "host;x-amz-date"},
	{"suite: post-x-www-form-urlencoded",
	 "POST",
	 "/",
	 "",
	 {{"content-type", "application/x-www-form-urlencoded"},
	  {"host", "example.amazonaws.com"},
	  {"x-amz-date", "20150830T123600Z"}},
	 "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
	 "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
	 NULL,
	 "content-type;host;x-amz-date"},
};

static void
check(const Vector *v, const char *access_key, const char *secret_key, const char *service)
{
	SigRequest request = {0};
	char *canonical = NULL, *to_sign = NULL, *authorization;
	char wanted[1024];
	char name[128];

	request.method = v->method;
	request.path = v->path;
	request.query = v->query;
	request.headers = v->headers;
	while (request.nheaders < MAX_HEADERS && v->headers[request.nheaders].name)
		request.nheaders++;
	for (int i = 0; i < request.nheaders; i++)
		if (strcmp(v->headers[i].name, "x-amz-date") == 0)
			request.time = v->headers[i].value;
	request.payload_sha256 = v->payload;
	request.region = "us-east-1";
	request.service = service;
	request.access_key = access_key;
	request.secret_key = secret_key;
	authorization = sigv4_authorization(&request, &canonical, &to_sign);
	if (v->canonical_sha)
	{
		snprintf(wanted, sizeof(wanted), "AWS4-HMAC-SHA256\n%s\n%.8s/us-east-1/%s/aws4_request\n%s", request.time,
				 request.time, service, v->canonical_sha);
		snprintf(name, sizeof(name), "%s, string to sign", v->name);
		if (!is_text(to_sign, wanted, name))
			printf("# of the canonical request\n%s\n", canonical);
	}
	snprintf(wanted, sizeof(wanted),
			 "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, Signature=%s",
			 access_key, request.time, service, v->signed_headers, v->signature);
	is_text(authorization, wanted, v->name);
	free(canonical);
	free(to_sign);
	free(authorization);
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(s3_vectors) / sizeof(s3_vectors[0]); i++)
		check(&s3_vectors[i], "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "s3");
	for (size_t i = 0; i < sizeof(suite_vectors) / sizeof(suite_vectors[0]); i++)
		check(&suite_vectors[i], "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "service");
	return done_testing();
}
