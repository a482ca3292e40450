"""The map of AIGC: four classes of content by modality, the techniques of each, and seven areas of use.

Every entry says what it means, how it works, by which products it is known, and which lesson of the course builds it. The
names of the techniques and their Chinese terms follow article 23 of China's Provisions on deep synthesis (in force since 10
January 2023), widened by video, style and virtual scenes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Leaf:
    """A technique, or an area of use.

    Args:
        key:      its name in code.
        means:    one sentence: what it is.
        works:    one sentence: how it works.
        products: a few well-known ones.
        built_by: number of the lesson that builds it (written or planned), or None.
        uses:     of an area: keys of the techniques it draws on most.
    """

    key: str
    name: str
    chinese: str
    means: str
    works: str
    products: tuple[str, ...]
    built_by: str | None
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Branch:
    """A class of content with its techniques, or all areas of use."""

    key: str
    name: str
    chinese: str
    means: str
    works: str
    leaves: tuple[Leaf, ...]


# fmt: off
NAME, CHINESE = "AIGC", "人工智能生成内容"
MEANS = "AIGC is content produced by a program from rules, models and data, not by a person."
WORKS = ("Most of it comes from two engines: a diffusion model learns a high-dimensional distribution by learning to"
         " reverse a gradual noising; a GPT is pretrained without labels on text, then fine-tuned with labels for a"
         " task.")

TEXT = Branch(
    "text", "Text", "文本",
    "A program writes, rewrites or answers in words.",
    "Text is cut into tokens, and a language model draws one token after another, each given all those before it.",
    (
        Leaf("article_writing", "Article writing", "篇章生成",
             "A program writes a whole text: a report, a story, the description of a product.",
             "A template is filled with facts, or a language model goes on from a prompt, drawing each token from the"
             " probabilities that all text so far gives to the next.",
             ("ChatGPT", "Claude", "文心一言 (ERNIE Bot)", "Wordsmith"), "40"),
        Leaf("text_style_transfer", "Text style transfer", "文本风格转换",
             "The same content is said in another manner: shorter, more polite, in verse.",
             "A language model generates under two conditions, the text to keep and the manner to take on.",
             ("Grammarly", "DeepL Write", "QuillBot"), "40"),
        Leaf("dialogue", "Question answering and dialogue", "问答对话",
             "A program answers questions and keeps up a conversation.",
             "A pretrained language model is fine-tuned on questions with their answers and on people's preferences; many"
             " systems also look up documents and put them in front of the question.",
             ("ChatGPT", "Gemini", "DeepSeek", "豆包 (Doubao)"), "36"),
    ),
)

AUDIO = Branch(
    "audio", "Audio", "音频",
    "A program speaks, changes voices, and makes music and sound.",
    "Sound becomes a picture of frequencies over time, or a row of tokens; either engine can then learn it, and a vocoder"
    " turns the result back into a waveform.",
    (
        Leaf("text_to_speech", "Text to speech", "文本转语音",
             "Written text becomes speech.",
             "Letters become speech sounds with durations and pitch, by rules or by a network, and a vocoder turns these"
             " into a waveform.",
             ("ElevenLabs", "讯飞 (iFLYTEK)", "Amazon Polly", "eSpeak NG"), "41"),
        Leaf("voice_conversion", "Voice conversion", "语音转换",
             "The words of one person come out in the voice of another.",
             "An encoder keeps what is said and drops who says it; a decoder adds the features of the other voice.",
             ("Respeecher", "RVC", "so-vits-svc"), "41"),
        Leaf("voice_attribute_editing", "Voice attribute editing", "语音属性编辑",
             "Pitch, speed, age or mood of a voice is changed, and the words stay.",
             "A recording is taken apart into pitch, timing and timbre; one of them is changed, and all are put together"
             " again.",
             ("Auto-Tune", "Melodyne", "Voicemod"), "41"),
        Leaf("music_synthesis", "Music synthesis", "音乐生成",
             "A program composes or performs music, from a description, a melody, or nothing.",
             "Notes or short pieces of sound are tokens for an autoregressive model, or the spectrogram is a picture for"
             " a diffusion model.",
             ("Suno", "Udio", "AIVA", "MusicGen"), "42"),
        Leaf("scene_sound", "Scene-sound generation and editing", "场景声生成与编辑",
             "Rain, footsteps or a street are made to fit a text or a film, or are taken out of a recording.",
             "A generator draws sound conditioned on a description, or on the sound before and after a gap.",
             ("AudioGen", "Stable Audio", "iZotope RX"), "42"),
    ),
)

IMAGE = Branch(
    "image", "Image and video", "图像与视频",
    "A program draws, changes and mends pictures, still or moving, of faces and of everything else.",
    "A picture is one point in a space with as many dimensions as it has numbers; a diffusion model learns where in this"
    " space real pictures lie, and walks there from noise.",
    (
        Leaf("face_generation", "Face generation", "人脸生成",
             "A program draws the portrait of a person who does not exist.",
             "A GAN or a diffusion model learns the distribution of faces from many photographs, and draws a sample from"
             " it.",
             ("StyleGAN (This Person Does Not Exist)", "Generated Photos"), "43"),
        Leaf("face_replacement", "Face replacement", "人脸替换",
             "The face in a picture or film is exchanged for that of another person.",
             "In the classic design one encoder serves both people and each has a decoder: encode the first face, decode"
             " it as the second.",
             ("DeepFaceLab", "Reface", "ZAO"), "43"),
        Leaf("face_attribute_editing", "Face attribute editing", "人物属性编辑",
             "Age, hair, smile or glasses of a face are changed, and the person can still be recognised.",
             "Attributes are directions in a generator's latent space, or its conditions: encode the face, change one,"
             " decode.",
             ("FaceApp", "美图秀秀 (Meitu)", "Snapchat Lenses"), "43"),
        Leaf("face_manipulation", "Face manipulation", "人脸操控",
             "A portrait is made to move: the expressions and lips of one person drive the face of another.",
             "Key points of the driving face say how each region moves; a network bends the portrait along and paints"
             " what comes into view.",
             ("Deep Nostalgia (MyHeritage)", "LivePortrait", "Avatarify"), "43"),
        Leaf("pose_control", "Pose control", "姿态操控",
             "The posture of a person in a picture is prescribed.",
             "A skeleton of joints is one more condition of the generator, beside a text or a photograph.",
             ("ControlNet with OpenPose", "Animate Anyone"), "43"),
        Leaf("image_editing", "Image and video editing", "图像与视频编辑",
             "A part of a picture or film is changed, and the rest stays.",
             "At every step of the sampler the part to keep is put back, and only the masked part, guided by an"
             " instruction, is drawn anew.",
             ("Photoshop Generative Fill", "Google Magic Editor", "Runway"), "19"),
        Leaf("image_generation", "Image generation", "图像生成",
             "A picture is drawn from noise and a wish: a label, or a text.",
             "A diffusion model starts from noise and guesses, step by step, the picture underneath, with the wish as a"
             " condition.",
             ("Midjourney", "Stable Diffusion", "DALL·E"), "13"),
        Leaf("video_generation", "Video generation", "视频生成",
             "A film is drawn from a text, or from its first picture.",
             "Time is one more axis: all frames are denoised together, so that what is in one stays in the next.",
             ("Sora", "可灵 (Kling)", "Veo"), "45"),
        Leaf("image_enhancement", "Image and video enhancement", "图像与视频增强",
             "A picture or film becomes larger, sharper, brighter or less noisy.",
             "A network trained on pairs of poor and good pictures predicts the good one; a generator adds detail that is"
             " plausible, and need not be true.",
             ("NVIDIA DLSS", "Topaz Video", "waifu2x"), "44"),
        Leaf("image_restoration", "Image and video restoration", "图像与视频修复",
             "What a picture or film has lost is put back: scratches are filled, colours return.",
             "What is missing is sampled given what is left.",
             ("DeOldify", "GFPGAN", "Remini"), "44"),
        Leaf("style_replication", "Style replication", "风格迁移",
             "A picture or film is redrawn in the manner of another.",
             "Content and manner are described by different statistics of a network's features, and the new picture is"
             " made to match one of each.",
             ("Prisma", "Midjourney style reference"), "44"),
    ),
)

SPACE = Branch(
    "space", "Virtual space", "虚拟空间",
    "A program builds things, people and worlds that can be walked around and acted in.",
    "A scene is a set of numbers (surfaces, blobs, a network) from which a picture can be computed for any camera; it is"
    " fitted to photographs, generated, or moved by rules.",
    (
        Leaf("reconstruction_3d", "3-D reconstruction", "三维重建",
             "Photographs of a thing or a place become a model that can be seen from any side.",
             "A scene is adjusted until the pictures computed from it agree with the photographs.",
             ("COLMAP", "Polycam", "Luma AI"), "46"),
        Leaf("digital_simulation", "Digital simulation", "数字仿真",
             "A world with its physics, traffic or crowds runs inside a computer.",
             "Rules compute the next state from the present one, or a network learned from recordings predicts the next"
             " frame from frames and actions.",
             ("NVIDIA Omniverse", "CARLA", "Genie"), "46"),
        Leaf("digital_humans", "Editing digital humans", "数字人编辑",
             "A virtual person is shaped, dressed and made to speak.",
             "A model of body and face turns a few numbers into a shape, and a text, a voice or a camera moves these"
             " numbers.",
             ("MetaHuman", "Synthesia", "HeyGen"), "46"),
        Leaf("virtual_scenes", "Editing virtual scenes", "虚拟场景编辑",
             "A virtual place is built or changed: its ground, its houses, its light.",
             "Rules place and vary the parts, and generators add shapes and textures from a description.",
             ("Houdini", "SpeedTree", "Skybox AI"), "46"),
    ),
)

CLASSES = (TEXT, AUDIO, IMAGE, SPACE)

AREAS = Branch(
    "areas", "Areas of use", "应用领域",
    "Seven areas in which generated content is at work.",
    "Each joins several techniques into one pipeline, with a person who orders, chooses and answers for the result.",
    (
        Leaf("content_creation", "Content creation", "内容创作",
             "Drafts of texts, pictures, films and music are made for people who publish.",
             "A person writes a prompt, chooses among many cheap samples, and edits the one chosen.",
             ("Canva Magic Studio", "Adobe Firefly", "剪映 (CapCut)"), "47",
             ("article_writing", "image_generation", "video_generation", "music_synthesis", "text_to_speech")),
        Leaf("advertising", "Advertising", "广告",
             "Slogans, posters and clips are made for one product in many variants.",
             "Templates and generators expand one brief for every size, language and audience; clicks decide what stays.",
             ("鹿班 (Luban)", "Meta Advantage+", "Google Performance Max"), "47",
             ("article_writing", "image_generation", "style_replication", "video_generation")),
        Leaf("news", "News", "新闻",
             "Reports on results, weather and markets are written and read out.",
             "Numbers from a table fill a template or condition a language model; a synthetic voice or presenter reads.",
             ("Wordsmith (Associated Press)", "Dreamwriter (Tencent)", "Xinhua AI anchor"), "47",
             ("article_writing", "text_to_speech", "digital_humans", "face_manipulation")),
        Leaf("film", "Film", "影视",
             "Effects, dubbing, restored archives and whole shots are made by models.",
             "Shots are edited, voices and faces converted, and old material restored, frame by frame, with masks set by"
             " people.",
             ("Respeecher", "Flawless TrueSync", "Runway"), "47",
             ("video_generation", "image_editing", "image_restoration", "face_replacement", "voice_conversion",
              "scene_sound")),
        Leaf("games", "Games", "游戏",
             "Landscapes, textures, characters and their talk are generated, partly while you play.",
             "Rules grow worlds from a seed, networks enlarge the frames, and language models let characters answer.",
             ("No Man's Sky", "AI Dungeon", "NVIDIA DLSS"), "47",
             ("virtual_scenes", "digital_simulation", "image_enhancement", "dialogue", "music_synthesis")),
        Leaf("education", "Education", "教育",
             "Explanations, exercises and feedback are made for one learner.",
             "A dialogue model is conditioned on the subject and on what the learner has just written.",
             ("Khanmigo", "Duolingo Max"), "47",
             ("dialogue", "article_writing", "text_to_speech", "digital_humans")),
        Leaf("marketing", "Marketing", "营销",
             "Messages, product pages and replies are written for each customer.",
             "What is known of a customer conditions the text, and two variants are sent to see which is answered more"
             " often.",
             ("Jasper", "Copy.ai", "HubSpot"), "47",
             ("article_writing", "text_style_transfer", "dialogue", "image_generation")),
    ),
)
# fmt: on

BRANCHES = (*CLASSES, AREAS)


def leaves() -> dict[str, Leaf]:
    """Every technique and every area of use, by key."""
    return {leaf.key: leaf for branch in BRANCHES for leaf in branch.leaves}
