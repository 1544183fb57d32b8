/* compress.h: included before all else, so that a test decides whether pages are compressed. */
extern unsigned segment_test_compress_from;
#define COMPRESS_FROM segment_test_compress_from
