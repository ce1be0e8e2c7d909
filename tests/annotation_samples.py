"""Small annotation files, each of exactly the form that the data set's authors gave theirs."""

MSRVTT = {
    "info": {"year": "2016"},
    "videos": [
        {"category": 9, "url": "u", "video_id": "video7010", "start time": 1.0, "split": "test", "id": 7010},
        {"category": 3, "url": "u", "video_id": "video6512", "start time": 1.0, "split": "validate", "id": 6512},
        {"category": 3, "url": "u", "video_id": "video7011", "start time": 1.0, "split": "test", "id": 7011},
    ],
    "sentences": [
        {"caption": "a man sings", "video_id": "video7011", "sen_id": 0},
        {"caption": "a girl  runs\n", "video_id": "video7010", "sen_id": 1},
        {"caption": "a dog barks", "video_id": "video6512", "sen_id": 2},
        {"caption": "somebody sings", "video_id": "video7011", "sen_id": 3},
    ],
}
MSRVTT_1K_A = (
    "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person connects\nret1,msr9771,video9771,'a girl'\n"
)
ACTIVITYNET = {
    "v_uqiMw7tQ1Cc": {
        "duration": 55.15,
        "timestamps": [[0.28, 55.4], [13.79, 54.32]],
        "sentences": ["A tutorial is given.", "  The coach helps."],
    },
    "v_bXdq2zI1Ms0": {"duration": 73, "timestamps": [[9, 8]], "sentences": ["Men fight."]},
}
VATEX = [
    {"videoID": "G9zN5TTuGO4_000179_000189", "enCap": ["One person sits.", " Two sit. "], "chCap": ["x"]},
    {"videoID": "-_0a_000000_000010", "enCap": ["A child."]},
]
CHARADES_HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
CHARADES_ROWS = (
    'YSKX3,CP6Y,Bedroom,5,6,Yes,A person fixes the bed.,bed;pillow,"A person pats a bed, slowly.;'
    'A person leaves.;",c077 12.10 18.00;c079 11.80 17.30,16.62\n'
    "T5ECU,M7K8,Living room,6,7,Yes,One smiles.,chair,A person leaves the room,,31.29\n"
)
COCO_OFFICIAL = {
    "info": {},
    "images": [
        {"file_name": "000000397133.jpg", "id": 397133, "height": 427},
        {"file_name": "000000037777.jpg", "id": 37777, "height": 230},
    ],
    "annotations": [
        {"image_id": 37777, "id": 1, "caption": "A kitchen.\n"},
        {"image_id": 397133, "id": 2, "caption": "A man cooks."},
        {"image_id": 37777, "id": 3, "caption": "A fridge."},
    ],
}
COCO_KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_000000391895.jpg",
            "split": "test",
            "imgid": 0,
            "cocoid": 391895,
            "sentences": [{"raw": "A man rides.", "tokens": ["a"]}, {"raw": "A  biker."}],
        },
        {"filepath": "train2014", "filename": "b.jpg", "split": "restval", "sentences": [{"raw": "A cat."}]},
    ],
}

KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    "testifying,---QUuC4vJs,84,94,val,0\n"
    '"shooting goal (soccer)",--2bpI6nwd0,0,10,val,0\n'
    "testifying,-0x,7,17,val,0\n"
)
SSV2_LABELS = {"Putting something on something": "1", "Holding something": "0"}
SSV2 = [
    {
        "id": "74225",
        "label": "putting a pen on paper",
        "template": "Putting [something] on [something]",
        "placeholders": ["a pen", "paper"],
    },
    {"id": "9", "template": "Holding [something]"},
    {"id": 10, "template": "Holding something"},
]
UCF_CLASSES = "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n"
UCF_TEST = (
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n"
    "YoYo/v_YoYo_g01_c01.avi\r\n"
    "HandStandPushups/v_HandStandPushups_g01_c02.avi\r\n"
)
UCF_TRAIN = "YoYo/v_YoYo_g08_c01.avi 3\nApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
IMAGENET_SYNSETS = """n01440764 tench, Tinca tinca
n02012849 crane
n03126707 crane
n01443537 goldfish, Carassius auratus
"""

AVA_ACTIONS = """label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label {
  name: "stand"
  label_id: 12
  label_type: PERSON_MOVEMENT
}
label {
  name: "talk to (e.g., self, a person, a group)"
  label_id: 79
  label_type: PERSON_INTERACTION
}
"""
# The second person of 0902 only does what is not evaluated (2), as does the only one of 0904.
AVA_VAL = """1j20qq1JyX4,0902,0.002,0.118,0.714,0.977,79,1
1j20qq1JyX4,0902,0.002,0.118,0.714,0.977,12,1
1j20qq1JyX4,0902,0.444,0.054,0.992,0.990,2,0
1j20qq1JyX4,0902,0.100,0.100,0.200,0.200,12,2
1j20qq1JyX4,0902,0.100,0.100,0.200,0.200,1,3
1j20qq1JyX4,0904,0.0,0.0,1.0,1.0,2,0
-5KQ66BBWC4,0900,0.077,0.151,0.283,0.811,1,1
-5KQ66BBWC4,1001,0.077,0.151,0.283,0.811,1,1
1j20qq1JyX4,0903,0.5,0.5,0.5,0.75,12,1
"""
AVA_DETECTED = """1j20qq1JyX4,0902,0.010,0.020,0.700,0.900,12,0.995
1j20qq1JyX4,0902,0.010,0.020,0.700,0.900,79,0.995
1j20qq1JyX4,0902,0.3,0.3,0.4,0.4,,0.8
1j20qq1JyX4,0902,0.3,0.3,0.4,0.5,-1,0.79
1j20qq1JyX4,0905,0.1,0.1,0.4,0.5,0.9
notours,0902,0.1,0.1,0.4,0.5,0.9
"""
